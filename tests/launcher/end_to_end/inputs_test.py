"""What a model's folder, its ids and its weights may hold: what is passed over, what is said, and what is refused."""

import os
import pathlib
import shutil

import end_to_end
import torch
from end_to_end import BAD_DATA, MISSING, NOT_FINITE, USAGE, chat, edit_json, edit_tensors, make_model
from end_to_end import read_metrics, write_lines
from safetensors.torch import load_file
from tokenizers import Tokenizer


class InputsTest(end_to_end.GoodModelTest):
    def run_training(self, model, *options, code=0, **how):
        ended = self.start(model, self.output, *options, code=code, **how)
        return " ".join(ended.stderr.split())


class Ids(InputsTest):
    def add_tokens(self, model, count=200):
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        tokenizer.add_tokens([f"zebra{i}" for i in range(count)])
        tokenizer.save(str(model / "tokenizer.json"))

    def test_padding_past_the_vocabulary(self):
        losses = [step["loss"] for step in self.train(self.good, self.output)[0]]
        model = self.copy_model()
        self.add_tokens(model)
        edit_json(model / "tokenizer_config.json", pad_token="zebra199")
        self.output = self.own_path("padded")
        self.run_training(model)
        self.assertEqual([step["loss"] for step in read_metrics(self.output)[0]], losses)
        self.output = self.own_path("two")
        self.run_training(model, ranks=2)

    def test_pad_token_id_past_the_vocabulary(self):
        model = self.copy_model()
        edit_json(model / "config.json", pad_token_id=512)
        self.assertIn('"pad_token_id" 512 is past the 512 entries', self.run_training(model))

    def test_prompt_past_the_vocabulary(self):
        model = self.copy_model()
        self.add_tokens(model)
        for ranks in (1, 2):
            said = self.run_training(model, "--sample", "Tell me about zebra199.", code=BAD_DATA, ranks=ranks)
            self.assertIn("--sample", said)
            self.assertIn('"zebra199"', said)
            self.assertIn("another model", said)
            self.assertFalse(self.output.exists())

    def test_samples_and_validation_past_the_vocabulary(self):
        model = self.copy_model()
        self.add_tokens(model)
        bad = write_lines(self.folder / "zebras.jsonl", [chat(0), chat(1), {"text": "a zebra198 runs"}])
        said = self.run_training(model, code=BAD_DATA, data=bad)
        self.assertIn(f"sample 3 of {bad}", said)
        self.assertIn('"zebra198"', said)
        self.assertIn(f"sample 3 of {bad}", self.run_training(model, "--validation", bad, code=BAD_DATA, ranks=2))

    def test_end_token_past_the_vocabulary(self):
        model = self.copy_model()
        self.add_tokens(model)
        edit_json(model / "tokenizer_config.json", eos_token="zebra197")
        # Chats end with the template's own token, running text with the tokenizer's.
        self.assertIn('the end token "zebra197"', self.run_training(model, "--sample", "Hello."))
        shutil.rmtree(self.output)
        text = write_lines(self.folder / "text.jsonl", [{"text": "a fox runs"}])
        self.assertIn('"zebra197"', self.run_training(model, code=BAD_DATA, data=text))

    def test_longer_than_the_model_was_made_for(self):
        long = write_lines(self.folder / "long.jsonl", [chat(0), {"text": "tea and Paris " * 200}])
        said = self.run_training(self.good, "--sequence-length", 1024, "--steps", 1, data=long)
        self.assertIn("warning: 1 sample is longer than the 256 positions", said)
        self.assertIn("--sequence-length 256", said)
        shutil.rmtree(self.output)
        short = write_lines(self.folder / "short.jsonl", [{"text": "tea and Paris"}])
        said = self.run_training(self.good, "--sequence-length", 1024, "--steps", 1, data=short)
        self.assertNotIn("positions", said)


class Weights(InputsTest):
    def poison(self, name, value, index=0):
        return self.model_with(lambda tensors: tensors[name].view(-1)[index].fill_(value), name)

    def test_tensors_that_are_not_finite_are_named(self):
        for name, value in [("model.layers.1.self_attn.k_proj.weight", float("nan")),
                            ("model.layers.0.input_layernorm.weight", float("inf")),
                            ("model.norm.weight", -float("inf"))]:
            model = self.poison(name, value, 5)
            for ranks in (1, 2):
                with self.subTest(name=name, ranks=ranks):
                    said = self.run_training(model, code=NOT_FINITE, ranks=ranks)
                    self.assertIn(f"{name} of {model / 'model.safetensors'} (value 5 is", said)
                    self.assertNotIn("--learning-rate", said)
                    shutil.rmtree(self.output)

    def test_in_a_shard(self):
        model = make_model(self.folder / "shards", shard_size="60KB")
        shard = sorted(model.glob("model-*.safetensors"))[-1]
        name = sorted(load_file(shard))[0]
        edit_tensors(shard, lambda tensors: tensors[name].view(-1)[0].fill_(float("nan")))
        said = self.run_training(model, "--strategy", "zero3", code=NOT_FINITE, ranks=2)
        self.assertIn(f"{name} of {shard}", said)

    def test_a_sample_that_breaks_the_loss_is_named(self):
        token = Tokenizer.from_file(str(self.good / "tokenizer.json")).encode("K", add_special_tokens=False).ids[0]

        def change(tensors):
            # Only where the two meet does their sum pass the largest number.
            tensors["model.embed_tokens.weight"][token] = 3.4e38
            tensors["model.layers.0.self_attn.o_proj.weight"] *= 1e37
            tensors["lm_head.weight"] = torch.ones_like(tensors["model.embed_tokens.weight"])

        model = self.model_with(change)
        edit_json(model / "config.json", tie_word_embeddings=False)
        data = write_lines(self.folder / "letters.jsonl", [{"text": f"the fox {i} {'K' if i == 5 else 'x'}y"}
                                                           for i in range(8)])
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                said = self.run_training(model, "--global-batch", 8, "--packing", "off", code=NOT_FINITE, data=data,
                                         ranks=ranks)
                self.assertIn(f"sample 6 of {data}", said)
                self.assertNotIn("--learning-rate", said)
                shutil.rmtree(self.output)
        said = self.run_training(model, "--validation", data, code=NOT_FINITE)
        self.assertIn("validation loss after step 0", said)
        self.assertIn(f"sample 6 of {data}", said)

    def test_a_head_of_its_own_under_tied_embeddings(self):
        model = self.model_with(lambda tensors: tensors.update(
            {"lm_head.weight": 1.5 * tensors["model.embed_tokens.weight"]}))
        self.assertIn("lm_head.weight differs from model.embed_tokens.weight", self.run_training(model))
        written = load_file(self.output / "model.safetensors")
        self.assertFalse(torch.equal(written["lm_head.weight"], written["model.embed_tokens.weight"]))
        before = load_file(model / "model.safetensors")
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            self.assertFalse(torch.equal(written[name], before[name]), name)
            self.assertLess((written[name] - before[name]).abs().max(), 0.05)

    def test_the_prefix_of_a_wrapper_is_named(self):
        for prefix in ("module.", "_orig_mod.", "base_model.model.", "module._orig_mod."):
            model = self.model_with(
                lambda tensors, prefix=prefix: {prefix + name: tensor for name, tensor in tensors.items()}, prefix)
            said = self.run_training(model, code=BAD_DATA)
            self.assertIn(f'the names of all tensors begin with "{prefix}"', said)


class Folders(InputsTest):
    def snapshot(self, cache, name):
        """The model in a folder of the hub's cache."""
        return pathlib.Path(shutil.copytree(self.good, cache / "models--someone--tiny-llama" / "snapshots" / name))

    def test_a_folder_of_the_hubs_cache(self):
        snapshot = self.snapshot(self.folder / "hub", "0123abc")
        cache = snapshot.parents[1]
        (cache / "refs").mkdir()
        for given in (cache, str(cache) + "/", cache / "snapshots"):
            self.assertIn(f"give --model {snapshot}", self.run_training(given, code=MISSING))
        shutil.rmtree(snapshot)
        self.assertIn("hf download", self.run_training(cache, code=MISSING))

    def test_a_name_on_the_hub(self):
        for given in ("someone/tiny-llama", "https://huggingface.co/someone/tiny-llama"):
            said = self.run_training(given, code=MISSING)
            self.assertIn('run "hf download someone/tiny-llama --local-dir DIR" first', said)
        snapshot = self.snapshot(self.folder / "cache", "77")
        said = self.run_training("someone/tiny-llama", code=MISSING,
                                 env={**os.environ, "HF_HUB_CACHE": str(self.folder / "cache")})
        self.assertIn(f"give --model {snapshot}", said)

    def test_other_things_than_a_model(self):
        adapter = self.folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text("{}")
        self.assertIn("it is an adapter", self.run_training(adapter, code=MISSING))
        self.assertIn(f"there is one in {self.good}", self.run_training(self.folder, code=MISSING))
        said = self.run_training(self.good / "model.safetensors", code=MISSING)
        self.assertIn(f"holds config.json and the weights: {self.good}", said)

    def test_models_spelled_for_other_programs(self):
        for given, words in (("hf://someone/tiny-llama", 'run "hf download someone/tiny-llama'),
                             ("hf.co/someone/tiny-llama", 'run "hf download someone/tiny-llama'),
                             ("someone/tiny-llama@main", 'run "hf download someone/tiny-llama'),
                             ("s3://bucket/model", "it is an address"), ("$HOME/model", "was not expanded"),
                             (f"file://{self.good}", "give the path alone"), (f"{self.good} ", "ends in a blank"),
                             (self.folder / "goad", f"did you mean {self.good}?"), ("gpt2", "--model takes the path")):
            with self.subTest(given=given):
                said = self.run_training(given, code=MISSING)
                self.assertIn("there is no such model directory; ", said)
                self.assertIn(words, said)

    def test_folders_without_weights_that_are_read(self):
        for name, words in (("model-00001-of-00002.safetensors", "with its index"),
                            ("model.safetensors.incomplete", "did not finish"),
                            ("consolidated.00.pth", "convert these weights"), ("model.Q4_K_M.gguf", "llama.cpp")):
            with self.subTest(name=name):
                model = self.copy_model(name)
                (model / "model.safetensors").rename(model / name)
                self.assertIn(words, self.run_training(model, code=MISSING))
                (model / "config.json").unlink()
                if name.endswith(("safetensors", "gguf", "pth")):
                    self.assertIn(f"only {name}", self.run_training(model, code=MISSING))

    def test_the_hubs_cache_itself(self):
        home = self.folder / "home"
        snapshot = self.snapshot(home / "hub", "88")
        for given in (home, home / "hub"):
            self.assertIn(f"it is the hub's cache; give --model with one of its models: {snapshot}",
                          self.run_training(given, code=MISSING))

    def settings(self, data=None):
        """The text of a job's settings."""
        return (f"model = {self.good}\ndata = {data or self.training}\noutput = {self.output}\nsteps = 1\n"
                "sequence-length = 128\n")

    def run_settings(self, data, *options, code=0):
        """Runs a job with settings of these bytes, and returns what it says."""
        path = self.own_path("job.ini")
        path.write_bytes(data)
        return self.run_command([self.train_program, "--config", path, *options], code).stderr

    def test_settings_in_other_encodings(self):
        text = self.settings()
        for data in (text.encode(), text.replace("\n", "\r\n").encode(), text.replace("\n", "\r").encode(),
                     text.encode("utf-8-sig")):
            self.run_settings(data, "--dry-run")
        self.assertIn("UTF-16", self.run_settings(text.encode("utf-16"), "--dry-run", code=USAGE))
        for line in (f"output = '{self.output}'", "sample = 'Who are you?'"):
            said = self.run_settings(text.replace(f"output = {self.output}", line).encode(), "--dry-run", code=USAGE)
            self.assertIn("single quotes mean nothing here", said)

    def test_settings_name_a_file_with_a_blank(self):
        spaced = pathlib.Path(shutil.copy(self.training, self.folder / "my chats.jsonl"))
        for value, word in [(str(spaced), "double quotes"), (f"'{spaced}'", "single quotes"),
                            (str(spaced).replace(" ", "\\ "), "backslash")]:
            said = self.run_settings(self.settings(value).encode(), code=MISSING)
            self.assertIn(word, said)
            self.assertIn(f"{self.own_path('job.ini')}:2: data", said)
        self.run_settings(self.settings(f'"{spaced}"').encode())


if __name__ == "__main__":
    end_to_end.main()
