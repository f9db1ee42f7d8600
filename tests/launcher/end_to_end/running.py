"""A training that is begun, so that a test does something to it while it runs."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import end_to_end
from end_to_end import read_metrics, read_run, tree

LONG = ("--steps", 700)


def remove_tree(folder):
    """Removes a folder into which a training may write meanwhile."""
    while folder.exists():
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
            return


class RunningTest(end_to_end.GoodModelTest):
    def begin(self, model, output, *options, ranks=1, environment=(), until=None, data=None, **how):
        """Starts a training; returns it once until() holds, or else its first step is done."""
        command = self.on_ranks(ranks, self.command(model, output, *options, data=data))
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   text=True, env={**os.environ, **dict(environment)}, start_new_session=True, **how)
        self.addCleanup(process.stderr.close)
        self.addCleanup(self.end_process, process)
        metrics = output / "metrics.jsonl"
        self.wait_until(until or (lambda: metrics.exists() and metrics.stat().st_size > 0), process)
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
