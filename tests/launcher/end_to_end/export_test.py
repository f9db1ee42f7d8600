"""The trained directory: it loads in transformers, gives the logged validation loss, and nothing else changed."""

import json

import end_to_end
import torch
from end_to_end import EndToEndTest, edit_json, edit_tensors, make_model, tree
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

CHANGED = {"run.json", "metrics.jsonl"}
ROW = 96


def header(path):
    """Names, shapes and dtypes in file order, and the metadata."""
    with safe_open(path, "pt") as file:
        slices = [(name, file.get_slice(name)) for name in file.offset_keys()]
        return [(name, s.get_shape(), s.get_dtype()) for name, s in slices], file.metadata()


class ExportTest(EndToEndTest):
    template = ()

    def setUp(self):
        self.model = self.own_path("model")
        self.output = self.own_path("output")

    def transformers_loss(self, folder, dtype):
        """Mean loss over the supervised tokens of the validation file, every document by itself."""
        ended = self.run_command([self.data_program, "--model", folder, "--data", self.validation,
                                  "--sequence-length", ROW, "--json", *self.template], 0)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        total, count, longest = 0.0, 0, 0
        for line in ended.stdout.splitlines():
            sample = json.loads(line)
            labels = torch.tensor(sample["labels"][1:])
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([sample["ids"]])).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits.double(), labels, ignore_index=-100,
                                                       reduction="sum").item()
            count += int((labels != -100).sum())
            longest = max(longest, len(sample["ids"]))
        self.assertEqual(longest, ROW, "no sample was cut: the test would not see a different truncation")
        return total / count

    def train_here(self, *options, ranks=1):
        before = tree(self.model)
        _, evaluations = self.train(self.model, self.output, "--validation", self.validation, "--sequence-length", ROW,
                                    *self.template, *options, ranks=ranks)
        self.assertEqual(tree(self.model), before, "the model folder changed")
        self.assertLess(evaluations[-1]["validation_loss"], 0.98 * evaluations[0]["validation_loss"])
        return evaluations[-1]["validation_loss"]

    def check_loss(self, logged, tolerance, dtype=torch.float32):
        theirs = self.transformers_loss(self.output, dtype)
        self.assertLess(abs(logged - theirs) / theirs, tolerance, f"logged {logged}, in transformers {theirs}")

    def check_files(self, changed=(), added=frozenset()):
        """The same files; only the weights, and those named, differ."""
        before, after = tree(self.model), tree(self.output)
        self.assertEqual(set(after) - CHANGED - added, set(before))
        self.assertIn("generation_config.json", before)
        for name, data in before.items():
            if name.endswith(".safetensors"):
                self.assertNotEqual(after[name], data, name)
            elif name not in changed:
                self.assertEqual(after[name], data, name)
        AutoTokenizer.from_pretrained(self.output)

    def check_headers(self):
        for path in self.model.glob("*.safetensors"):
            self.assertEqual(header(path), header(self.output / path.name))

    def check_fp32(self, family, ranks):
        make_model(self.model, family)
        (self.model / "README.md").write_text("A model.\n")
        (self.model / "extra" / "deep").mkdir(parents=True)
        (self.model / "extra" / "deep" / "notes.txt").write_bytes(bytes(range(256)))
        self.check_loss(self.train_here(ranks=ranks), 1e-4)
        self.check_files()
        self.check_headers()

    def test_llama_tied(self):
        self.check_fp32("llama_tied", 1)

    def test_llama_untied_two_ranks(self):
        self.check_fp32("llama_untied", 2)

    def test_glm4(self):
        self.check_fp32("glm4", 1)

    def test_says_what_is_not_copied(self):
        make_model(self.model)
        self.assertNotIn("not copied", self.start(self.model, self.output, "--steps", 1).stderr)
        (self.model / "pytorch_model.bin").write_bytes(b"stale")
        (self.model / ".git").mkdir()
        (self.model / ".git" / "HEAD").write_text("ref\n")
        ended = self.start(self.model, self.output, "--steps", 1, "--overwrite", ranks=2, code=0)
        said = ("not copied from the model's folder: pytorch_model.bin (weights in another form); "
                ".git/ (hidden folder)\n")
        self.assertEqual(ended.stderr.count(said), 1, ended)
        self.assertFalse({"pytorch_model.bin", ".git"} & set(tree(self.output)))

    def test_glm4_two_ranks(self):
        self.check_fp32("glm4", 2)

    def check_head_of_its_own(self, table):
        """config.json ties it to the embeddings, and the file holds another: both are trained, and loaded as
        trained."""
        torch.manual_seed(3)
        tensors = edit_tensors(self.model / "model.safetensors", lambda tensors: tensors.update(
            {"lm_head.weight": torch.randn_like(tensors[table]) * 0.1}))
        logged = self.train_here(ranks=2)
        trained = load_file(self.output / "model.safetensors")
        model = AutoModelForCausalLM.from_pretrained(self.output, dtype=torch.float32)
        for name, module in ((table, model.get_input_embeddings()), ("lm_head.weight", model.get_output_embeddings())):
            self.assertFalse(torch.equal(trained[name], tensors[name]), f"{name} was not trained")
            self.assertTrue(torch.equal(trained[name], module.weight), name)
        self.check_loss(logged, 1e-4)
        return (self.output / "config.json").read_text()

    def test_a_head_of_its_own(self):
        make_model(self.model, "llama_tied")
        before = (self.model / "config.json").read_text()
        self.assertIn('"tie_word_embeddings": true', before)
        after = self.check_head_of_its_own("model.embed_tokens.weight")
        self.assertEqual(after, before.replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))

    def test_a_head_of_its_own_where_nothing_is_said(self):
        """OPT ties them then."""
        make_model(self.model, "opt")
        (self.model / "chat_template.jinja").unlink()
        self.template = ("--template", "plain")
        edit_json(self.model / "config.json", lambda config: config.pop("tie_word_embeddings", None))
        before = json.loads((self.model / "config.json").read_text())
        after = json.loads(self.check_head_of_its_own("model.decoder.embed_tokens.weight"))
        self.assertIs(after.pop("tie_word_embeddings"), False)
        self.assertEqual({**after, "eos_token_id": None}, {**before, "eos_token_id": None})

    def check_opt(self, family, ranks, prefixed=True):
        """As it is published: without a chat template, and perhaps without the head's prefix."""
        make_model(self.model, family)
        (self.model / "chat_template.jinja").unlink()
        if not prefixed:
            AutoModelForCausalLM.from_pretrained(self.model).model.save_pretrained(self.model)
        names = [name for name, _, _ in header(self.model / "model.safetensors")[0]]
        self.assertEqual({name.startswith("model.decoder.") for name in names}, {prefixed})
        self.template = ("--template", "plain")
        self.check_loss(self.train_here(ranks=ranks), 1e-4)
        self.check_files(changed=("generation_config.json", "config.json", "tokenizer_config.json"),
                         added={"chat_template.jinja"})
        self.check_headers()

    def test_opt(self):
        self.check_opt("opt", 1)

    def test_opt_norms_last_two_ranks(self):
        self.check_opt("opt_norms_last", 2)

    def test_opt_without_prefix(self):
        self.check_opt("opt", 1, prefixed=False)

    def check_bf16(self, family, ranks):
        make_model(self.model, family, torch.bfloat16)
        self.check_loss(self.train_here("--precision", "bf16", ranks=ranks), 1e-2, torch.bfloat16)
        self.check_files()
        self.check_headers()

    def test_bf16_llama(self):
        self.check_bf16("llama_tied", 2)

    def test_bf16_glm4(self):
        self.check_bf16("glm4", 1)

    def test_smollm2(self):
        """A real model, in fp32 and in bf16, at ZeRO stages 0 and 3."""
        self.model = end_to_end.REPOSITORY / ".cache" / "smollm2-135m-instruct"
        for precision, strategy, save, dtype, tolerance in (("fp32", "ddp", "fp32", torch.float32, 1e-4),
                                                            ("bf16", "zero3", "input", torch.bfloat16, 1e-2)):
            with self.subTest(precision=precision):
                logged = self.train_here("--precision", precision, "--strategy", strategy, "--save-dtype", save,
                                         "--learning-rate", "1e-4", "--steps", 2, "--overwrite", ranks=2)
                self.check_loss(logged, tolerance, dtype)
                self.check_files(changed=("config.json",) if save == "fp32" else ())

    def test_trained_in_fp32_and_saved_in_bf16(self):
        """The last validation is of the rounded weights, which are those in the file."""
        make_model(self.model, "llama_tied", torch.bfloat16)
        self.check_loss(self.train_here(), 1e-4)
        self.check_headers()

    def test_sharded_input_gives_the_same_shards(self):
        make_model(self.model, "llama_untied", shard_size="120KB")
        self.assertGreater(len(list(self.model.glob("*.safetensors"))), 2)
        self.check_loss(self.train_here(ranks=2), 1e-4)
        self.check_files()
        self.check_headers()

    def check_save_dtype(self, option, config_name, stored, tolerance):
        make_model(self.model, "llama_untied", shard_size="120KB")
        self.check_loss(self.train_here("--save-dtype", option), tolerance)
        self.check_files(changed=("config.json", "model.safetensors.index.json"))
        for path in self.output.glob("*.safetensors"):
            self.assertEqual({dtype for _, _, dtype in header(path)[0]}, {stored})
        before, after = (json.loads((folder / "config.json").read_text()) for folder in (self.model, self.output))
        self.assertEqual(after.pop("dtype"), config_name)
        before.pop("dtype")
        self.assertEqual(after, before)
        before, after = (json.loads((folder / "model.safetensors.index.json").read_text())
                         for folder in (self.model, self.output))
        self.assertEqual(after["weight_map"], before["weight_map"])
        self.assertEqual(2 * after["metadata"]["total_size"], before["metadata"]["total_size"])

    def test_save_dtype_bf16(self):
        self.check_save_dtype("bf16", "bfloat16", "BF16", 1e-4)

    def test_save_dtype_fp16(self):
        self.check_save_dtype("fp16", "float16", "F16", 1e-3)


if __name__ == "__main__":
    end_to_end.main()
