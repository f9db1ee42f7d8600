"""Bad input: every failure has its sentence and its exit code, ends all ranks, and leaves nothing half-written."""

import json
import os
import resource
import shutil
import struct

import end_to_end
import tiny_tokenizers
import torch
from end_to_end import BAD_DATA, CANNOT_CREATE, DOES_NOT_FIT, IO_FAILED, MISSING, NOT_FINITE, UNAVAILABLE, USAGE
from end_to_end import chat, edit_json, exchange, limit, make_model, run_bounded, tree, write_lines


class Refusals(end_to_end.GoodModelTest):
    def check(self, ended, code, words, ranks=1):
        self.assertEqual(ended.code, code, ended)
        sentence = self.sentence(ended)
        for word in words:
            self.assertIn(str(word), sentence)
        if ranks == 1:
            self.assertEqual(ended.stderr.splitlines()[-1], sentence)

    def check_unfinished(self, output):
        """Of the run there is its record, which says that it did not finish, and no file of a model."""
        left = tree(output)
        self.assertEqual(set(left), {"run.json", "metrics.jsonl"})
        self.assertFalse(json.loads(left["run.json"])["finished"])

    def refuse(self, code, words, *options, model=None, data=None, ranks=(1,), output=None):
        """The run fails with this code and one sentence that holds these words, and writes nothing."""
        output = output or self.output
        before = tree(output)
        for number in ranks:
            with self.subTest(ranks=number):
                ended = self.start(model or self.good, output, *options, ranks=number, data=data)
                self.check(ended, code, words, number)
                self.assertEqual(tree(output), before)


class DataTest(Refusals):
    def lines(self, *objects):
        return write_lines(self.own_path("data.jsonl"), objects)

    def test_missing_file(self):
        missing = self.folder / "nowhere.jsonl"
        self.refuse(MISSING, [missing, "No such file"], data=missing, ranks=(1, 2))

    def test_missing_validation_file(self):
        missing = self.folder / "nowhere.jsonl"
        self.refuse(MISSING, [missing], "--validation", missing)

    def test_broken_line(self):
        data = self.lines(chat(0), chat(1), '{"messages": [{"role": "user"', chat(2))
        self.refuse(BAD_DATA, [f"{data}:3:"], data=data, ranks=(1, 2))

    def test_broken_line_that_only_another_rank_reads(self):
        data = self.lines(*[chat(i) for i in range(40)], '{"messages": 1}')
        self.refuse(BAD_DATA, [f"{data}:41:", "messages"], data=data, ranks=(2, 3))

    def test_unknown_role(self):
        data = self.lines(chat(0), {"messages": [{"role": "robot", "content": "Hi"}]})
        self.refuse(BAD_DATA, [f"{data}:2:", 'unknown role "robot"'], data=data)

    def test_empty(self):
        self.refuse(BAD_DATA, ["holds no samples"], data=self.lines(), ranks=(1, 2))

    def test_empty_array(self):
        data = self.folder / "empty.json"
        data.write_text("[]")
        self.refuse(BAD_DATA, [data, "holds no samples"], data=data)

    def test_nothing_to_supervise(self):
        data = self.lines({"messages": [{"role": "user", "content": "Hello?"}]})
        self.refuse(BAD_DATA, ["nothing to supervise", data], data=data, ranks=(1, 2))

    def test_overlong(self):
        data = self.lines(chat(0), chat(1), chat(2, words=200))
        self.refuse(BAD_DATA, [f"{data}:3:", "256", "--overlong"], "--overlong", "error", "--sequence-length", 256,
                    data=data, ranks=(1, 2))

    def test_tokenizer_of_another_model(self):
        model = self.copy_model()
        tokenizer = tiny_tokenizers.byte_level()
        tokenizer.add_tokens([f"word{i}" for i in range(100)])
        tokenizer.save(str(model / "tokenizer.json"))
        data = self.lines(chat(0), exchange("Say it.", "word7 word99"))
        self.refuse(BAD_DATA, ["tokenizer", str(end_to_end.VOCABULARY), "another model"], model=model, data=data,
                    ranks=(1, 2))


class ModelTest(Refusals):
    def test_missing_folder(self):
        missing = self.folder / "no-model"
        self.refuse(MISSING, [missing, "no such model directory"], model=missing, ranks=(1, 2))

    def test_missing_tokenizer(self):
        model = self.copy_model()
        (model / "tokenizer.json").unlink()
        self.refuse(MISSING, [model / "tokenizer.json"], model=model)

    def test_truncated_weights(self):
        model = self.copy_model()
        weights = model / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 1000)
        self.refuse(BAD_DATA, [weights, "truncated"], model=model, ranks=(1, 2))

    def test_overlapping_tensors(self):
        model = self.copy_model()
        weights = model / "model.safetensors"
        data = weights.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + size])
        first, second = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])[:2]
        begin, end = header[second]["data_offsets"]
        header[second]["data_offsets"] = [begin - 64, end - 64]
        text = json.dumps(header).encode()
        weights.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
        self.refuse(BAD_DATA, [weights, second, "overlap"], model=model)

    def test_missing_tensor(self):
        name = "model.layers.1.mlp.up_proj.weight"
        model = self.model_with(lambda tensors: tensors.pop(name))
        self.refuse(BAD_DATA, [name, "missing"], model=model, ranks=(1, 2))

    def test_extra_tensor(self):
        name = "model.layers.2.mlp.up_proj.weight"
        model = self.model_with(lambda tensors: tensors.update({name: torch.zeros(96, 64)}))
        self.refuse(BAD_DATA, [name, "no place"], model=model)

    def test_misshapen_tensor(self):
        name = "model.layers.1.mlp.up_proj.weight"
        model = self.model_with(lambda tensors: tensors.update({name: torch.zeros(64, 96)}))
        self.refuse(BAD_DATA, [name, "[64, 96]", "[96, 64]"], model=model)

    def test_unknown_architecture(self):
        model = self.copy_model()
        edit_json(model / "config.json", model_type="mamba", architectures=["Mamba"])
        self.refuse(BAD_DATA, ["mamba", "not supported", "llama", "glm4"], model=model)

    def test_more_positions_than_the_model_has(self):
        model = make_model(self.folder / "opt", "opt")
        self.refuse(USAGE, ["--sequence-length 161", "160 positions"], "--sequence-length", 161, model=model)

    def test_quantized(self):
        model = self.copy_model()
        edit_json(model / "config.json", quantization_config={"quant_method": "gptq"})
        self.refuse(BAD_DATA, [model / "config.json", "quantized"], model=model)

    def test_config_that_would_change_the_model(self):
        for words, fields in [(["num_local_experts", "mixtures"], {"num_local_experts": 8}),
                              (["rms_norm_eps", "above 0"], {"rms_norm_eps": 0}),
                              (["num_hidden_layers", "from 1 to 4096"], {"num_hidden_layers": 100000}),
                              (["vocab_size", "from 1 to"], {"vocab_size": 2**31}),
                              (["1e+13 that are supported"], {"intermediate_size": 2**30, "num_hidden_layers": 4000})]:
            with self.subTest(fields=fields):
                model = self.copy_model()
                edit_json(model / "config.json", **fields)
                self.refuse(BAD_DATA, [model / "config.json", *words], model=model)
                shutil.rmtree(model)

    def test_pickled_weights(self):
        model = self.copy_model()
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
        self.refuse(BAD_DATA, [model, "pickle", "save_pretrained"], model=model)

    def test_no_weights(self):
        model = self.copy_model()
        (model / "model.safetensors").unlink()
        self.refuse(MISSING, [model, "no weights"], model=model)

    def test_unknown_template(self):
        model = self.copy_model()
        for path in model.glob("*.jinja"):
            path.unlink()
        edit_json(model / "tokenizer_config.json", lambda config: config.pop("chat_template", None))
        self.refuse(BAD_DATA, [model, "--template", "chatml"], model=model, ranks=(1, 2))


class OutputTest(Refusals):
    def test_not_a_folder(self):
        path = self.folder / "a-file"
        path.write_text("mine")
        self.refuse(CANNOT_CREATE, [path, "not a folder"], output=path)
        self.assertEqual(path.read_text(), "mine")

    def test_below_a_file(self):
        path = self.folder / "another-file"
        path.write_text("mine")
        self.refuse(CANNOT_CREATE, [path / "output"], output=path / "output", ranks=(1, 2))
        self.assertEqual(path.read_text(), "mine")

    def test_not_writable(self):
        self.refuse(CANNOT_CREATE, ["/proc/output"], output="/proc/output")

    def test_the_model_itself(self):
        before = tree(self.good)
        self.refuse(USAGE, ["--output", "--model"], output=self.good, ranks=(1, 2))
        self.refuse(USAGE, ["inside the model folder"], output=self.good / "trained")
        self.assertEqual(tree(self.good), before)

    def test_finished_run(self):
        self.train(self.good, self.output)
        self.refuse(CANNOT_CREATE, [self.output, "finished run", "--overwrite"], "--seed", 7, ranks=(1, 2))
        before = tree(self.output)
        for ranks in (1, 2):
            ended = self.start(self.good, self.output, ranks=ranks, code=0)
            self.assertIn("finished already, with the same options and inputs; nothing is left to do", ended.stderr)
            self.assertEqual(tree(self.output), before)
        self.train(self.good, self.output, "--overwrite", "--seed", 7)
        after = tree(self.output)
        self.assertEqual(set(after), set(before))
        self.assertNotEqual(after["model.safetensors"], before["model.safetensors"])

    def test_files_of_others(self):
        self.output.mkdir()
        (self.output / "config.json").write_text("mine")
        self.refuse(CANNOT_CREATE, [self.output / "config.json", "was not written by"])

    def test_disk_too_small(self):
        mounted = self.mount("256k")
        self.refuse(CANNOT_CREATE, [mounted, "free", "KiB"], output=mounted / "output", ranks=(1, 2))
        self.assertEqual(tree(mounted), {})

    def test_the_model_cannot_be_written(self):
        most = (self.good / "model.safetensors").stat().st_size // 2
        ended = self.start(self.good, self.output, preexec_fn=limit(resource.RLIMIT_FSIZE, most))
        self.check(ended, IO_FAILED, ["model.safetensors", "File too large"])
        self.check_unfinished(self.output)
        self.train(self.good, self.output)


class OptionTest(Refusals):
    def test_wrong(self):
        for words, options in [
            (["fp16", "bf16"], ["--precision", "fp16"]),
            (["--learning-rat", "--learning-rate"], ["--learning-rat", 0.1]),
            (["--learning-rate", "1e30"], ["--learning-rate", "1e30"]),
            (["--steps", "zero"], ["--steps", "zero"]),
            (["--steps", "--epochs"], ["--steps", 3, "--epochs", 3]),
            (["--micro-batch 8", "--global-batch 4"], ["--micro-batch", 8]),
            (["--recompute-layers", "none"], ["--recompute", "none", "--recompute-layers", 1]),
            (["--recompute-layers 99", "layers of the model"], ["--recompute", "full", "--recompute-layers", 99]),
            (["--evaluate-every"], ["--evaluate-every", 2]),
            (["--template", "nosuch"], ["--template", "nosuch"]),
            (["--sequence-length"], ["--sequence-length", 1]),
            (["--validation"], ["--validation", 1.5]),
        ]:
            with self.subTest(options=options):
                self.refuse(USAGE, words, *options)

    def test_wrong_on_two_ranks(self):
        self.refuse(USAGE, ["--steps", "--epochs"], "--steps", 3, "--epochs", 3, ranks=(2,))

    def test_missing(self):
        self.check(run_bounded([self.train_program, "--model", self.good]), USAGE, ["--data", "--output"])


class RankTest(Refusals):
    def test_ranks_disagree(self):
        one = self.command(self.good, self.output, "--learning-rate", 0.1)
        other = self.command(self.good, self.output, "--learning-rate", 0.2)
        ended = run_bounded([self.mpirun, 1] + one + [":", "-np", 1] + other)
        self.check(ended, UNAVAILABLE, ["disagree", "0.1", "0.2", "rank 1"], 2)
        self.assertIsNone(tree(self.output))

    def test_only_one_rank_finds_the_model_broken(self):
        broken = self.copy_model()
        weights = broken / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 1000)
        for rank, model in enumerate((self.good, broken)):
            host = self.own_path(f"host-{rank}")
            host.mkdir()
            (host / "model").symlink_to(model)
        ended = run_bounded(self.on_hosts(2, self.command("model", self.output)))
        self.check(ended, BAD_DATA, ["rank 1", "truncated"], 2)
        self.assertIsNone(tree(self.output))

    def test_no_gpu(self):
        self.refuse(UNAVAILABLE, ["cuda"], "--device", "cuda", ranks=(1, 2))

    def test_memory_limit(self):
        self.refuse(DOES_NOT_FIT, ["nothing fits", "--memory-limit", "MiB", "phase"], "--memory-limit", "1MiB",
                    ranks=(1, 2))

    def check_not_finite(self, ranks, words, *options, model=None):
        ended = self.start(model or self.good, self.output, *options, ranks=ranks)
        self.check(ended, NOT_FINITE, words, ranks)
        self.check_unfinished(self.output)

    def test_loss_explodes(self):
        self.check_not_finite(2, ["step ", "--learning-rate"], *end_to_end.DIVERGING)

    def test_weights_that_are_not_finite(self):
        model = self.model_with(lambda tensors: tensors["model.norm.weight"][3].fill_(float("nan")))
        self.check_not_finite(2, ["validation loss after step 0", "--model"], "--validation", self.validation,
                              model=model)


if __name__ == "__main__":
    end_to_end.main()
