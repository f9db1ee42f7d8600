"""What a run leaves in its output folder, whatever happens while it trains: a full disk, a folder that goes away,
files of the model that change, an earlier model, files of others."""

import os
import pathlib
import shutil
import signal
import time

import end_to_end
from end_to_end import CANNOT_CREATE, IO_FAILED, NOT_FINITE, read_run, tree
from running import LONG, RunningTest, remove_tree


class FullDiskTest(RunningTest):
    def test_a_moment_without_room_for_metrics(self):
        mounted = self.mount("3m")
        for ranks in (1, 2):
            output = mounted / f"output-{ranks}"
            process = self.begin(self.good, output, *LONG, ranks=ranks)
            filler = self.fill(mounted)
            time.sleep(0.5)
            filler.unlink()
            self.assertIn("kept back", self.finish(process))
            self.check_model(output, LONG[1])
            shutil.rmtree(output)

    def test_the_room_is_taken_at_the_start(self):
        mounted = self.mount("3m")
        output = mounted / "output"
        process = self.begin(self.good, output, "--steps", 400)
        size = (self.good / "model.safetensors").stat().st_size
        held = sum(path.stat().st_blocks * 512 for path in output.glob(".model.tmp-*/*.safetensors"))
        self.assertGreaterEqual(held, size)
        filler = self.fill(mounted)
        os.truncate(filler, filler.stat().st_size - (400 << 10))
        self.finish(process)
        self.check_model(output, 400)

    def test_a_full_disk_at_the_end_is_waited_out(self):
        mounted = self.mount("3m")
        output = mounted / "output"
        process = self.begin(self.good, output, "--steps", 300)
        filler = self.fill(mounted)
        self.wait_until_waiting(process, output)
        filler.unlink()
        self.finish(process)
        self.check_model(output, 300)

    def wait_until_waiting(self, process, output):
        for line in process.stderr:
            if "waits for it" in line:
                self.assertIn("No space left on device", line)
                return
        self.fail("nothing was waited for")

    def test_a_disk_that_stays_full(self):
        """The weights have their room; they stay, and the message says how to finish."""
        mounted = self.mount("3m")
        output = mounted / "output"
        process = self.begin(self.good, output, "--steps", 300, environment=[("AUTOGLM_FAULT_DISK_PATIENCE", "2")])
        filler = self.fill(mounted)
        said = self.finish(process, IO_FAILED)
        filler.unlink()
        (kept,) = output.glob(".model.tmp-*")
        self.assertIn(f"the trained weights are whole in {kept}", said.splitlines()[-1])
        for path in self.good.iterdir():
            if path.name != "model.safetensors":
                shutil.copy(path, kept)
        end_to_end.AutoModelForCausalLM.from_pretrained(kept)

    def test_a_stop_ends_the_wait(self):
        mounted = self.mount("3m")
        output = mounted / "output"
        process = self.begin(self.good, output, "--steps", 300)
        filler = self.fill(mounted)
        self.wait_until_waiting(process, output)
        process.send_signal(signal.SIGTERM)
        self.assertIn("the trained weights are whole in", self.finish(process, IO_FAILED))
        filler.unlink()

    def test_the_end_of_the_job_ends_the_wait(self):
        mounted = self.mount("3m")
        output = mounted / "output"
        # It leaves half a minute for the rest.
        process = self.begin(self.good, output, "--steps", 300,
                             environment=[("SLURM_JOB_END_TIME", str(int(time.time()) + 40))])
        filler = self.fill(mounted)
        said = self.finish(process, IO_FAILED)
        self.assertIn("for 1 minutes more, when the job's time ends", said)
        self.assertIn("the trained weights are whole in", said)
        self.assertEqual(len(list(output.glob(".model.tmp-*/model.safetensors"))), 1)
        filler.unlink()

    def test_no_room_at_the_start(self):
        mounted = self.mount("256k")
        self.start(self.good, mounted / "output", code=CANNOT_CREATE)
        self.assertEqual(tree(mounted), {})


class FolderTest(RunningTest):
    def test_a_folder_that_is_removed(self):
        for number, take_away in enumerate((remove_tree, lambda output: output.rename(str(output) + "-elsewhere"))):
            for ranks in (1, 2):
                with self.subTest(number=number, ranks=ranks):
                    output = self.own_path(f"{number}-{ranks}")
                    process = self.begin(self.good, output, *LONG, ranks=ranks)
                    take_away(output)
                    self.assertIn("made again", self.finish(process))
                    self.check_model(output, LONG[1])

    def test_a_folder_that_others_made_again(self):
        """What they have there is neither replaced nor removed."""
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                output = self.own_path(ranks)
                process = self.begin(self.good, output, *LONG, ranks=ranks)
                foreign = self.folder / f"foreign-{ranks}"
                (foreign / "deep").mkdir(parents=True)
                for name in ("config.json", "run.json", "metrics.jsonl", "model.safetensors", "deep/notes.txt"):
                    (foreign / name).write_text(f"mine: {name}")
                before = tree(foreign)
                output.rename(str(output) + "-elsewhere")
                if "metrics.jsonl" in (tree(output) or {}):
                    shutil.rmtree(output)  # a line of metrics came between
                foreign.rename(output)
                self.assertIn(f"goes to {output}.restored", self.finish(process))
                self.assertEqual(tree(output), before)
                self.check_model(pathlib.Path(f"{output}.restored"), LONG[1])

    def test_a_name_that_others_took(self):
        """Found when the model is to be put into place: it stays whole where it is."""
        process = self.begin(self.good, self.output, *LONG)
        (self.output / "tokenizer.json").write_text("mine")
        said = self.finish(process, CANNOT_CREATE)
        (kept,) = self.output.glob(".model.tmp-*")
        self.assertIn(f"{self.output / 'tokenizer.json'}: is there", said)
        self.assertIn(f"the trained model is whole in {kept}", said)
        self.assertEqual((self.output / "tokenizer.json").read_text(), "mine")
        self.assertFalse((self.output / "config.json").exists())
        end_to_end.AutoModelForCausalLM.from_pretrained(kept)
        self.assertEqual(set(tree(kept)), set(tree(self.good)))
        self.assertEqual(read_run(self.output)["state"], "failed")

    def test_the_folder_above_is_removed(self):
        output = self.output / "deep" / "below"
        process = self.begin(self.good, output, *LONG)
        remove_tree(self.output)
        self.finish(process)
        self.check_model(output, LONG[1])

    def test_metrics_that_are_removed(self):
        process = self.begin(self.good, self.output, *LONG)
        (self.output / "metrics.jsonl").unlink()
        self.finish(process)
        self.check_model(self.output, LONG[1])

    def test_a_path_that_is_too_long(self):
        output = self.folder
        while len(str(output)) < 3900:
            output = output / ("x" * 150)
        output = output / ("y" * (4038 - len(str(output)) - 1))
        for options in ((), ("--dry-run",)):
            ended = self.start(self.good, output, *options, code=CANNOT_CREATE)
            self.assertIn("too long", ended.stderr)
        self.assertFalse((self.folder / ("x" * 150)).exists())

    def test_files_of_the_model_that_change(self):
        for change in (lambda path: path.unlink(), lambda path: path.write_text("{}"), shutil.rmtree):
            model = self.copy_model()
            (model / "LICENSE").write_text("free")
            before = tree(model)
            process = self.begin(model, self.output, *LONG)
            if change is shutil.rmtree:
                change(model)
            else:
                for name in before:
                    if name != "model.safetensors":
                        change(model / name)
            self.finish(process)
            after = tree(self.output)
            for name in set(before) - {"model.safetensors"}:
                self.assertEqual(after[name], before[name], name)
            shutil.rmtree(model, ignore_errors=True)
            shutil.rmtree(self.output)


class OverwriteTest(RunningTest):
    def check_kept(self, before):
        after = tree(self.output)
        for name in set(before) - {"run.json", "metrics.jsonl"}:
            self.assertEqual(after[name], before[name], name)
        self.assertEqual(after["run.earlier.json"], before["run.json"])
        self.assertEqual(after["metrics.earlier.jsonl"], before["metrics.jsonl"])
        self.assertEqual(set(after) - set(before), {"run.earlier.json", "metrics.earlier.jsonl"})

    def test_a_run_that_fails_leaves_the_model_that_was_there(self):
        self.train(self.good, self.output)
        before = tree(self.output)
        self.start(self.good, self.output, "--overwrite", *end_to_end.DIVERGING, code=NOT_FINITE)
        self.check_kept(before)
        broken = self.model_with(lambda tensors: tensors["model.norm.weight"][0].fill_(float("nan")))
        self.start(broken, self.output, "--overwrite", ranks=2, code=NOT_FINITE)
        self.check_kept(before)
        ended = self.start(self.good, self.output, code=CANNOT_CREATE)
        self.assertIn("--overwrite", ended.stderr)
        self.train(self.good, self.output, "--overwrite", "--seed", 7)
        self.assertEqual(set(tree(self.output)), set(before))
        self.assertNotEqual(tree(self.output)["model.safetensors"], before["model.safetensors"])

    def test_a_run_that_is_killed(self):
        self.train(self.good, self.output)
        before = tree(self.output)
        process = self.begin(self.good, self.output, "--overwrite", *LONG, until=lambda: (
            (self.output / "run.earlier.json").exists() and (self.output / "metrics.jsonl").exists()))
        process.kill()
        process.wait()
        for name in set(before) - {"run.json", "metrics.jsonl"}:
            self.assertEqual(tree(self.output)[name], before[name], name)
        self.train(self.good, self.output, "--overwrite")
        self.assertEqual(set(tree(self.output)), set(before))

    def test_files_of_others(self):
        """They stay as they are, beside each model that replaces another."""
        self.train(self.good, self.output)
        with_more = self.copy_model()
        (with_more / "sub").mkdir()
        (with_more / "sub" / "code.py").write_text("pass\n")
        others = {"notes.txt": "mine", "sub/notes.txt": "mine too", "run.json.bak": "{}", ".model.tmp-mine/x": ""}
        for name, text in others.items():
            (self.output / name).parent.mkdir(exist_ok=True)
            (self.output / name).write_text(text)
        for model in (with_more, self.good):
            self.train(model, self.output, "--overwrite")
            self.assertEqual((self.output / "sub" / "code.py").exists(), model == with_more)
            for name, text in others.items():
                self.assertEqual((self.output / name).read_text(), text, name)
        (self.output / "sub" / "code.py").write_text("mine")
        ended = self.start(with_more, self.output, "--overwrite", code=CANNOT_CREATE)
        self.assertIn("sub/code.py: is there already", ended.stderr)


if __name__ == "__main__":
    end_to_end.main()
