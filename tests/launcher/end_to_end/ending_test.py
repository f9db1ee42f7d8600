"""How run.json says that a run ended: by a signal, a failure, the end of another rank, or without a word."""

import json
import os
import resource
import signal
import time

import end_to_end
from end_to_end import DIVERGING, IO_FAILED, NOT_FINITE, limit, read_metrics, read_run, tree
from running import LONG, RunningTest

STOPPED = 75


class EndingTest(RunningTest):
    def check_record(self, output, word, state="stopped"):
        run = read_run(output)
        self.assertFalse(run["finished"])
        self.assertEqual(run["state"], state)
        self.assertIsNotNone(run["ended_at"])
        self.assertIn(word, run["failure"]["message"])
        self.assertGreaterEqual(run["result"]["steps"], 1)
        self.assertEqual(set(tree(output)), {"run.json", "metrics.jsonl"})

    def test_signals(self):
        for one in (signal.SIGHUP, signal.SIGXCPU):
            with self.subTest(signal=one):
                output = self.own_path(one.name)
                process = self.begin(self.good, output, "--steps", 100000)
                process.send_signal(one)
                self.finish(process, -one)
                self.check_record(output, one.name)

    def test_signals_that_ask_for_a_checkpoint(self):
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            with self.subTest(signal=one):
                output = self.own_path(one.name)
                process = self.begin(self.good, output, "--steps", 100000)
                process.send_signal(one)
                said = self.finish(process, STOPPED)
                self.assertIn("whose checkpoint is in place; the same command goes on from it", said)
                run = read_run(output)
                self.assertEqual((run["state"], run["failure"]["exit_code"]), ("stopped", STOPPED))
                self.assertTrue((output / f"checkpoint-{run['result']['steps']}" / "manifest.json").exists())

    def test_a_second_signal_does_not_wait(self):
        """For the end of a step that takes long."""
        many = end_to_end.write_lines(self.folder / "many.jsonl", [end_to_end.chat(i) for i in range(8000)])
        process = self.begin(self.good, self.output, "--global-batch", 8000, "--steps", 2, data=many,
                             until=lambda: (self.output / "run.json").exists())
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.finish(process, -signal.SIGINT)
        self.assertEqual(read_run(self.output)["state"], "stopped")

    def test_another_rank_is_killed(self):
        """mpirun then ends the first."""
        process = self.begin(self.good, self.output, "--steps", 100000, ranks=2)
        os.kill(read_run(self.output)["ranks"][1]["pid"], signal.SIGKILL)
        process.communicate(timeout=end_to_end.RUN_SECONDS)
        self.assertNotEqual(process.returncode, 0)
        self.check_record(self.output, "SIGTERM")

    def test_the_first_rank_is_killed(self):
        """Nothing can be written down then; what is there says that the run did not end by itself."""
        for ranks in (1, 2):
            with self.subTest(ranks=ranks):
                output = self.own_path(ranks)
                process = self.begin(self.good, output, "--steps", 100000, ranks=ranks)
                run = read_run(output)
                first = run["ranks"][0]
                self.assertEqual(len(run["ranks"]), ranks)
                if ranks == 1:
                    self.assertEqual(first["pid"], process.pid)
                os.kill(first["pid"], signal.SIGKILL)
                process.communicate(timeout=end_to_end.RUN_SECONDS)
                run = read_run(output)
                self.assertEqual((run["state"], run["ended_at"], run["finished"]), ("running", None, False))
                said = self.start(self.good, output).stderr
                self.assertIn(f"the run before in {output}, begun at {run['started_at']} on {first['host']} as "
                              f"process {first['pid']}, was ended from outside", said)
                self.check_model(output, 3)
                self.assertEqual(read_run(output)["state"], "finished")
                self.assertNotIn("was ended from outside", self.start(self.good, output, "--overwrite").stderr)

    def test_failures(self):
        self.start(self.good, self.output, *DIVERGING, code=NOT_FINITE)
        self.check_record(self.output, "the loss is", "failed")
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
                output = self.own_path(f"{len(closed)}-{closed[0]}")
                shell = "exec \"$@\" " + " ".join(f"{one}>&-" for one in closed)
                command = self.command(self.good, output, "--sample", "Hello")
                self.run_command(["sh", "-c", shell, "sh", *command], code=0)
                self.check_model(output, 3)

    def test_a_limit_on_the_size_of_files(self):
        most = (self.good / "model.safetensors").stat().st_size // 2
        self.start(self.good, self.output, preexec_fn=limit(resource.RLIMIT_FSIZE, most), code=IO_FAILED)
        self.assertIn("model.safetensors", json.loads((self.output / "run.json").read_text())["failure"]["message"])
        self.assertEqual((self.output / "metrics.jsonl").read_text(), "", "it is found before the first step")


class RangeTest(RunningTest):
    """Values that the written dtype cannot hold."""

    def change(self, value, name="model.norm.weight", entries=1):
        return self.model_with(lambda tensors: tensors[name].view(-1)[:entries].fill_(value))

    def check(self, model, *options, ranks=1, name="model.norm.weight"):
        ended = self.start(model, self.output, "--save-dtype", "fp16", *options, ranks=ranks, code=NOT_FINITE)
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
        """They fit at the start, and those that grow do not."""
        model = self.change(65519.0, entries=64)
        self.check(model, "--learning-rate", 1, "--steps", 1, "--warmup", 0, "--schedule", "constant", "--adam-eps",
                   "1e-20", "--clip", 0)


if __name__ == "__main__":
    end_to_end.main()
