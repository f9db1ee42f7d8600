"""What a run leaves in its output folder, whatever happens while it trains: a full disk, a folder that goes away, files of
the model that change, a reader of the console that ends, a signal."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
import unittest

import end_to_end
import numpy as np
from end_to_end import EndToEndTest, make_model, read_metrics, read_run, tree
from safetensors.numpy import load_file, save_file

CANNOT_CREATE, IO_FAILED, NOT_FINITE = 73, 74, 77
LONG = ("--steps", 1500)


class OutputTest(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = make_model(cls.folder / "good")

    def setUp(self):
        self.output = self.folder / (self.id() + "-output")

    def copy_model(self):
        copy = self.folder / (self.id() + "-model")
        shutil.copytree(self.good, copy)
        return copy

    def begin(self, model, output, *options, ranks=1, environment=(), **how):
        """Starts a training; returns it once its first step is done."""
        command = self.on_ranks(ranks, self.command(model, output, *options))
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, env={**os.environ, **dict(environment)}, start_new_session=True, **how)
        self.addCleanup(process.stderr.close)
        self.addCleanup(self.end_process, process)
        self.wait_until(lambda: (output / "metrics.jsonl").exists() and (output / "metrics.jsonl").stat().st_size > 0,
                        process)
        return process

    def end_process(self, process):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_until(self, condition, process):
        end = time.monotonic() + end_to_end.RUN_SECONDS
        while not condition():
            self.assertIsNone(process.poll(), "the training ended")
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def finish(self, process, code=0):
        _, stderr = process.communicate(timeout=end_to_end.RUN_SECONDS)
        self.assertEqual(process.returncode, code, stderr)
        return stderr

    def mount(self, size):
        """A small file system of its own, or no test."""
        folder = self.folder / (self.id() + "-mounted")
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    def fill(self, folder):
        with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        return folder / "filler"

    def check_model(self, output, steps):
        """The output is whole, and its metrics have every step once."""
        self.assertLessEqual({"config.json", "model.safetensors", "tokenizer.json"}, set(tree(output)))
        self.assertFalse([name for name in tree(output) if ".tmp-" in name])
        self.assertTrue(read_run(output)["finished"])
        self.assertNotIn("failure", read_run(output))
        self.assertEqual([step["step"] for step in read_metrics(output)[0]], list(range(1, steps + 1)))


class FullDiskTest(OutputTest):
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

    def test_no_room_at_the_start(self):
        mounted = self.mount("256k")
        ended = self.start(self.good, mounted / "output")
        self.assertEqual(ended.code, CANNOT_CREATE, ended)
        self.assertEqual(tree(mounted), {})


class FolderTest(OutputTest):
    def test_a_folder_that_is_removed(self):
        for number, take_away in enumerate((shutil.rmtree, lambda output: output.rename(str(output) + "-elsewhere"))):
            for ranks in (1, 2):
                with self.subTest(number=number, ranks=ranks):
                    output = self.folder / f"{self.id()}-{number}-{ranks}"
                    process = self.begin(self.good, output, *LONG, ranks=ranks)
                    take_away(output)
                    self.assertIn("made again", self.finish(process))
                    self.check_model(output, LONG[1])

    def test_the_folder_above_is_removed(self):
        output = self.output / "deep" / "below"
        process = self.begin(self.good, output, *LONG)
        shutil.rmtree(self.output)
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
            ended = self.start(self.good, output, *options)
            self.assertEqual(ended.code, CANNOT_CREATE, ended)
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


class OverwriteTest(OutputTest):
    def check_kept(self, ended, code, before):
        self.assertEqual(ended.code, code, ended)
        after = tree(self.output)
        for name in set(before) - {"run.json", "metrics.jsonl"}:
            self.assertEqual(after[name], before[name], name)
        self.assertEqual(after["run.earlier.json"], before["run.json"])
        self.assertEqual(after["metrics.earlier.jsonl"], before["metrics.jsonl"])
        self.assertEqual(set(after) - set(before), {"run.earlier.json", "metrics.earlier.jsonl"})

    def test_a_run_that_fails_leaves_the_model_that_was_there(self):
        self.train(self.good, self.output)
        before = tree(self.output)
        diverging = ("--learning-rate", 1, "--weight-decay", 10, "--clip", 0, "--warmup", 0, "--schedule", "constant",
                     "--steps", 80)
        self.check_kept(self.start(self.good, self.output, "--overwrite", *diverging), NOT_FINITE, before)
        broken = self.copy_model()
        tensors = load_file(broken / "model.safetensors")
        tensors["model.norm.weight"][0] = np.nan
        save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
        self.check_kept(self.start(broken, self.output, "--overwrite", ranks=2), NOT_FINITE, before)
        ended = self.start(self.good, self.output)
        self.assertEqual(ended.code, CANNOT_CREATE, ended)
        self.assertIn("--overwrite", ended.stderr)
        self.train(self.good, self.output, "--overwrite", "--seed", 7)
        self.assertEqual(set(tree(self.output)), set(before))
        self.assertNotEqual(tree(self.output)["model.safetensors"], before["model.safetensors"])

    def test_a_run_that_is_killed(self):
        self.train(self.good, self.output)
        before = tree(self.output)
        process = subprocess.Popen([str(part) for part in self.command(self.good, self.output, "--overwrite", *LONG)],
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(process.stderr.close)
        self.wait_until(lambda: (self.output / "run.earlier.json").exists() and
                        (self.output / "metrics.jsonl").exists(), process)
        process.kill()
        process.wait()
        for name in set(before) - {"run.json", "metrics.jsonl"}:
            self.assertEqual(tree(self.output)[name], before[name], name)
        self.train(self.good, self.output, "--overwrite")
        self.assertEqual(set(tree(self.output)), set(before))


class EndingTest(OutputTest):
    def check_record(self, output, word):
        run = read_run(output)
        self.assertFalse(run["finished"])
        self.assertIsNotNone(run["ended_at"])
        self.assertIn(word, run["failure"]["message"])
        self.assertGreaterEqual(run["result"]["steps"], 1)
        self.assertEqual(set(tree(output)), {"run.json", "metrics.jsonl"})

    def test_signals(self):
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(signal=one):
                output = self.folder / f"{self.id()}-{one.name}"
                process = self.begin(self.good, output, "--steps", 100000)
                process.send_signal(one)
                self.finish(process, -one)
                self.check_record(output, one.name)

    def test_another_rank_is_killed(self):
        process = self.begin(self.good, self.output, "--steps", 100000, ranks=2)
        ranks = [pid for pid in self.descendants(process.pid) if "autoglm-train" in self.name_of(pid)]
        self.assertEqual(len(ranks), 2)
        for pid in ranks:
            with open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as file:
                if "OMPI_COMM_WORLD_RANK=1" in file.read().split("\0"):
                    os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=end_to_end.RUN_SECONDS)
        self.assertNotEqual(process.returncode, 0)
        self.check_record(self.output, "SIGTERM")

    def name_of(self, pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read().split("\0")[0]
        return ""

    def descendants(self, pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", encoding="utf-8") as file:
                    for child in file.read().split():
                        yield int(child)
                        yield from self.descendants(int(child))

    def test_failures(self):
        ended = self.start(self.good, self.output, "--learning-rate", 1, "--weight-decay", 10, "--clip", 0, "--warmup", 0,
                           "--schedule", "constant", "--steps", 80)
        self.assertEqual(ended.code, NOT_FINITE, ended)
        self.check_record(self.output, "the loss is")
        self.assertEqual(read_run(self.output)["failure"]["exit_code"], NOT_FINITE)

    def test_a_reader_that_goes_away(self):
        reading, writing = os.pipe()
        process = self.begin(self.good, self.output, *LONG, stdout=writing)
        os.close(writing)
        os.close(reading)
        process.stderr.close()
        self.assertEqual(process.wait(timeout=end_to_end.RUN_SECONDS), 0)
        self.check_model(self.output, LONG[1])

    def test_closed_descriptors(self):
        for closed in ((2,), (0, 1, 2), (1,)):
            with self.subTest(closed=closed):
                output = self.folder / f"{self.id()}-{len(closed)}-{closed[0]}"
                command = [str(part) for part in self.command(self.good, output, "--sample", "Hello")]
                shell = "exec \"$@\" " + " ".join(f"{one}>&-" for one in closed)
                self.assertEqual(subprocess.run(["sh", "-c", shell, "sh", *command], stdout=subprocess.DEVNULL,
                                                stderr=subprocess.DEVNULL, timeout=end_to_end.RUN_SECONDS,
                                                check=False).returncode, 0)
                self.check_model(output, 3)

    def test_a_limit_on_the_size_of_files(self):
        most = (self.good / "model.safetensors").stat().st_size // 2
        ended = self.start(self.good, self.output, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                                                                         (most, most)))
        self.assertEqual(ended.code, IO_FAILED, ended)
        self.assertIn("model.safetensors", json.loads((self.output / "run.json").read_text())["failure"]["message"])
        self.assertEqual((self.output / "metrics.jsonl").read_text(), "", "it is found before the first step")


class RangeTest(OutputTest):
    """Values that the written dtype cannot hold."""

    def change(self, value, name="model.norm.weight"):
        model = self.copy_model()
        tensors = load_file(model / "model.safetensors")
        tensors[name].flat[0] = value
        save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
        return model

    def check(self, model, *options, ranks=1, name="model.norm.weight"):
        ended = self.start(model, self.output, "--save-dtype", "fp16", *options, ranks=ranks)
        self.assertEqual(ended.code, NOT_FINITE, ended)
        self.assertIn(f"tensor {name}", ended.stderr)
        self.assertIn("--save-dtype", ended.stderr)
        self.assertFalse((self.output / "config.json").exists())
        return ended

    def test_at_the_start(self):
        model = self.change(70000)
        self.check(model)
        self.assertEqual(read_metrics(self.output)[0], [])
        self.check(model, "--precision", "bf16", ranks=2)

    def test_frozen(self):
        name = "model.embed_tokens.weight"
        self.check(self.change(-1e5, name), "--freeze", "model.embed_tokens.*", name=name)

    def test_only_in_training(self):
        """It fits at the start and grows."""
        model = self.change(65519.0)
        self.check(model, "--learning-rate", 1, "--steps", 1, "--warmup", 0, "--schedule", "constant", "--adam-eps",
                   "1e-20", "--clip", 0)


if __name__ == "__main__":
    end_to_end.main()
