"""autoglm-export: a checkpoint's model is, to the byte, what a job that ended there writes; and what it says."""

import json
import pathlib
import re
import shutil
import signal

import end_to_end
from end_to_end import BAD_DATA, CANNOT_CREATE, MISSING, USAGE, edit_json, make_model, tree
from running import RunningTest
from safetensors.torch import load_file

STOPPED = 75
# Every step is the same whatever the number of steps is.
CONSTANT = ("--schedule", "constant", "--warmup", 0, "--learning-rate", 0.01)
OF_THE_RUN = {"run.json", "metrics.jsonl", "latest"}
DOCUMENT = pathlib.Path(end_to_end.REPOSITORY) / "docs" / "checkpoints.md"


def model_of(folder):
    """The files of the model in a run's folder."""
    return {name: data for name, data in tree(folder).items()
            if name not in OF_THE_RUN and not name.startswith("checkpoint-")}


def steps_in(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*") if "." not in path.name)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


class CheckpointExportTest(RunningTest):
    @property
    def program(self):
        return pathlib.Path(self.train_program).with_name("autoglm-export")

    def export(self, *options, code=0):
        return self.run_command([self.program, *options], code)

    def check_same(self, exported, run):
        """The same files, to the byte, as those of the model in a run's folder."""
        mine, theirs = tree(exported), model_of(run)
        self.assertEqual(set(mine), set(theirs))
        self.assertEqual([name for name in mine if mine[name] != theirs[name]], [])

    def said(self, ended):
        """The sentence with which it failed."""
        sentences = [line for line in ended.stderr.splitlines() if line.startswith("autoglm-export: ")]
        self.assertEqual(len(sentences), 1, ended)
        return sentences[0]

    def stopped(self, name, *options, ranks=1, model=None):
        """The folder of a run that was stopped once it had two checkpoints, and the step of the newest."""
        output = self.own_path(name)
        process = self.begin(model or self.good, output, "--steps", 400, "--save-every", 2, *CONSTANT, *options,
                             ranks=ranks, until=lambda: len(steps_in(output)) > 1)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, STOPPED)
        return output, steps_in(output)[-1]

    def check_like_job(self, options, ranks=1, model=None):
        """The stopped job's checkpoint gives the model of a job of so many steps."""
        model = model or self.good
        output, step = self.stopped("stopped", *options, ranks=ranks, model=model)
        whole = self.own_path("whole")
        self.train(model, whole, *CONSTANT, "--steps", step, "--save-every", "never", *options, ranks=ranks)
        exported = self.own_path("exported")
        self.export(output, exported)
        self.check_same(exported, whole)
        self.assertTrue(tree(exported) != tree(model), "nothing was trained")
        return output, whole

    def test_like_the_job_fp32(self):
        # The embeddings a second time under the head's name, and generation that stops elsewhere than chats do.
        table = "model.embed_tokens.weight"
        model = self.model_with(lambda tensors: tensors.update({"lm_head.weight": tensors[table].clone()}))
        edit_json(model / "generation_config.json", eos_token_id=0)
        _, whole = self.check_like_job((), model=model)
        self.assertNotEqual((whole / "generation_config.json").read_bytes(),
                            (model / "generation_config.json").read_bytes())
        tensors = load_file(whole / "model.safetensors")
        self.assertTrue(tensors["lm_head.weight"].equal(tensors[table]))

    def test_like_the_job_two_ranks_split(self):
        # Shards, with frozen parameters, some of them in blocks that train.
        self.check_like_job(("--precision", "bf16", "--strategy", "zero3", "--master", "split", "--save-dtype", "bf16",
                             "--freeze", "*layers.0.*", "--freeze", "*norm*"), ranks=2)

    def test_like_the_job_in_every_dtype(self):
        # A head of its own, a template of another model, bf16 weights in two files.
        model = make_model(self.own_path("model"), "llama_untied", dtype=end_to_end.torch.bfloat16, shard_size="100KB")
        edit_json(model / "config.json", tie_word_embeddings=True)
        options = ("--precision", "bf16", "--master", "plain", "--strategy", "ddp", "--template", "llama3")
        output, whole = self.check_like_job(options, model=model)
        self.assertFalse(json.loads((whole / "config.json").read_text())["tie_word_embeddings"])
        newest = output / f"checkpoint-{steps_in(output)[-1]}"
        for dtype in ("fp32", "fp16"):
            resumed = self.own_path(dtype)
            shutil.copytree(output, resumed)
            steps = steps_in(output)[-1]
            # Goes on from the last step, and has nothing left to do but to write.
            self.train(model, resumed, *CONSTANT, *options, "--steps", steps, "--save-every", "never",
                       "--allow-change", "steps", "--save-dtype", dtype)
            exported = self.own_path(f"exported-{dtype}")
            self.export("--checkpoint", newest, "--output", exported, "--save-dtype", dtype)
            self.check_same(exported, resumed)

    def test_says_what_is_there(self):
        output, step = self.stopped("stopped")
        steps = steps_in(output)
        (output / "checkpoint-99.tmp-0").mkdir()
        listed = json.loads(self.export("--list", output, "--json").stdout)
        self.assertEqual([one["step"] for one in listed["checkpoints"]], steps[::-1])
        self.assertTrue(all(one["whole"] for one in listed["checkpoints"]))
        self.assertEqual(listed["latest"], step)
        self.assertEqual(listed["unfinished"], ["checkpoint-99.tmp-0"])
        self.assertEqual(json.loads(self.export("--list", output / f"checkpoint-{step}", "--json").stdout), listed)
        text = self.export("--list", output).stdout
        self.assertRegex(text, rf"(?m)^ +{step}  20\d\d-.*  whole, latest$")
        self.assertIn("whole", self.export("--verify", output).stdout)

        # A bit that has changed: only reading all of it tells, and the one before is taken.
        newest = output / f"checkpoint-{step}"
        [states] = newest.glob("states-*")
        flip(states, states.stat().st_size - 5)
        size = states.stat().st_size
        said = self.said(self.export("--verify", newest, code=BAD_DATA))
        self.assertIn(f"{states}: bytes 0 to {size} ", said)
        self.assertIn(str(states), self.said(self.export("--checkpoint", newest, "--output", self.own_path("a"),
                                                         code=BAD_DATA)))
        self.assertFalse(self.own_path("a").exists())
        ended = self.export("--checkpoint", output, "--output", self.own_path("deep") / "er")
        self.assertIn("cannot be used", ended.stderr)
        self.assertIn(f"the model after step {steps[-2]} is in", ended.stderr)
        self.export("--verify", output / f"checkpoint-{steps[-2]}")
        self.export("--verify", output, code=BAD_DATA)

        states.write_bytes(states.read_bytes()[:-1])
        listed = json.loads(self.export("--list", output, "--json").stdout)
        self.assertFalse(listed["checkpoints"][0]["whole"])
        self.assertIn(str(states), listed["checkpoints"][0]["problem"])
        self.assertEqual(listed["latest"], steps[-2])
        states.unlink()
        self.assertIn(str(states), self.said(self.export("--verify", newest, code=BAD_DATA)))
        (newest / "manifest.json").unlink()
        self.assertIn("manifest.json", self.said(self.export("--verify", newest, code=BAD_DATA)))

    def test_halves_and_the_documented_reader(self):
        # Weights halfway between two values of bf16, which so small a rate leaves as they are.
        def change(tensors):
            for name, tensor in tensors.items():
                tensors[name] = (tensor.bfloat16().view(end_to_end.torch.int16).to(end_to_end.torch.int32) << 16
                                 | 1 << 15).view(end_to_end.torch.float32)
        model = self.model_with(change)
        output, exported = self.own_path("output"), self.own_path("exported")
        self.train(model, output, "--learning-rate", 1e-30, "--steps", 2, "--save-every", 1, "--save-dtype", "bf16",
                   ranks=2)
        self.export("--checkpoint", output, "--output", exported)
        self.check_same(exported, output)

        self.export("--checkpoint", output, "--output", self.own_path("fp32"), "--save-dtype", "fp32")
        [reader] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
        names = {}
        exec(compile(reader, str(DOCUMENT), "exec"), names)
        read = names["read_checkpoint"](output / "checkpoint-1")
        written = load_file(self.own_path("fp32") / "model.safetensors")
        self.assertEqual({name.split("/", 1)[1] for name in read}, set(written))
        self.assertEqual({name.split("/")[0] for name in read}, {"master", "moment1", "moment2"})
        for name, tensor in written.items():
            self.assertTrue(tensor.equal(read[f"master/{name}"]), name)

    def test_best_and_elsewhere(self):
        output, elsewhere = self.own_path("output"), self.own_path("elsewhere") / "checkpoint-folder"
        self.train(self.good, output, "--epochs", 2, "--validation", self.validation, "--save-every", 3, "--keep-best",
                   "--checkpoint-dir", elsewhere)
        listed = json.loads(self.export("--list", output, "--json").stdout)
        self.assertEqual(listed["folder"], str(elsewhere))
        [best] = [one for one in listed["checkpoints"] if one["best"]]
        self.assertEqual(best["step"], listed["best"]["step"])
        self.assertIn("best: validation loss", self.export("--list", elsewhere).stdout)
        self.export("--checkpoint", best["path"], "--output", self.own_path("exported"))

    def test_run_without_checkpoints(self):
        self.train(self.good, self.output)
        self.assertIn("holds no checkpoint", self.export("--list", self.output).stdout)
        self.assertIn("holds no checkpoint", self.said(self.export("--verify", self.output, code=MISSING)))

    def test_refusals(self):
        output, step = self.stopped("stopped", "--freeze", "*layers.0.*")
        there = self.own_path("there")
        there.mkdir()
        (there / "mine").write_text("mine")
        to = ("--output", self.own_path("exported"))
        for options, code, says in (
                ((), USAGE, "name a checkpoint"),
                ((output,), USAGE, "the folder for the model is missing"),
                ((output, there, "more"), USAGE, "belongs to no option"),
                (("--checkpoint", output, "--list", output), USAGE, "two things"),
                (("--list", output, *to), USAGE, "--output is of no use"),
                (("--checkpoint", output, "--output", there), CANNOT_CREATE, "is not empty"),
                (("--checkpoint", output, "--output", there / "mine"), CANNOT_CREATE, "no folder"),
                (("--checkpoint", output / "none", *to), MISSING, "no such folder"),
                (("--list", output / "none"), MISSING, "no such folder"),
                (("--checkpoint", there, *to), MISSING, "holds no checkpoint"),
                (("--checkpoint", output, "--model", there, *to), MISSING, str(there))):
            with self.subTest(options=options):
                self.assertIn(says, self.said(self.export(*options, code=code)))
        self.assertEqual(tree(there), {"mine": b"mine"})

        # Another model; one whose frozen tensors are others; the right one, somewhere else.
        other = make_model(self.own_path("other"), num_hidden_layers=1)
        self.assertIn("is not the model", self.said(self.export("--checkpoint", output, "--model", other, *to,
                                                                code=BAD_DATA)))
        changed = self.model_with(lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"].add_(1))
        self.assertIn("have changed", self.said(self.export("--checkpoint", output, "--model", changed, *to,
                                                            code=BAD_DATA)))
        configured = self.copy_model("configured")
        end_to_end.edit_json(configured / "config.json", rms_norm_eps=0.3)
        self.assertIn("its config.json has changed", self.said(self.export(output, self.own_path("exported"), "--model",
                                                                           configured, code=BAD_DATA)))
        moved = self.copy_model("moved")
        self.export("--checkpoint", output, "--model", moved, *to)
        self.assertEqual(set(tree(to[1])), set(tree(moved)))

    def test_disk_too_small(self):
        output, _ = self.stopped("stopped")
        small = self.mount("64k")
        said = self.said(self.export("--checkpoint", output, "--output", small / "model", code=CANNOT_CREATE))
        self.assertIn("free", said)
        self.assertEqual(tree(small), {})


if __name__ == "__main__":
    end_to_end.main()
