"""A run that is stopped or killed and started again: it goes on where it was, and ends with the same bits."""

import os
import signal
import time

import end_to_end
from end_to_end import CANNOT_CREATE, read_metrics, read_run, tree
from running import RunningTest

STOPPED = 75
# An epoch of several steps, an accumulation window of several micro-batches, validation.
TRAINING = ("--epochs", 12, "--global-batch", 5, "--micro-batch", 1, "--validation", 0.1,
            "--learning-rate", 1e-3)
TIMES = {"step_seconds", "tokens_per_second", "device_peak_bytes", "host_peak_bytes", "exposed_seconds",
         "predicted_device_peak_bytes"}


def without_times(lines):
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


class ResumeTest(RunningTest):
    def whole(self, output, *options, **how):
        return self.start(self.good, output, *TRAINING, *options, code=0, **how).stderr

    def check_same(self, output, expected):
        """Weights to the bit, every step and evaluation once, and nothing unfinished left behind."""
        self.assertEqual((output / "model.safetensors").read_bytes(), (expected / "model.safetensors").read_bytes())
        for mine, theirs in zip(read_metrics(output), read_metrics(expected)):
            self.assertEqual(without_times(mine), without_times(theirs))
        self.assertTrue(read_run(output)["finished"])
        self.assertFalse([name for name in tree(output) if ".tmp-" in name or ".old-" in name])

    def stop_soon(self, output, steps, *options, ranks=1):
        """Starts the training and stops it after so many more steps, or lets it end before."""
        process = self.begin(self.good, output, *TRAINING, *options, ranks=ranks, until=lambda: True)
        metrics = output / "metrics.jsonl"
        done = metrics.read_text().count("loss") if metrics.exists() else 0
        while process.poll() is None and (not metrics.exists() or metrics.read_text().count("loss") < done + steps):
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
        _, stderr = process.communicate(timeout=end_to_end.RUN_SECONDS)
        self.assertIn(process.returncode, (0, STOPPED), stderr)

    def test_a_broken_checkpoint_gives_way_to_the_one_before(self):
        whole = self.own_path("whole")
        self.whole(whole)
        self.stop_soon(self.output, 5)
        self.stop_soon(self.output, 5)
        steps = sorted(int(name.split("-")[1]) for name in os.listdir(self.output) if name.startswith("checkpoint-"))
        self.assertEqual(len(steps), 2)
        for path in (self.output / f"checkpoint-{steps[1]}").glob("states-*"):
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
        said = self.whole(self.output)
        self.assertIn("a checkpoint cannot be used: ", said)
        self.assertIn(f"going on from {self.output}/checkpoint-{steps[0]}", said)
        self.check_same(self.output, whole)

    def test_what_differs_is_explained(self):
        self.stop_soon(self.output, 5)
        ended = self.start(self.good, self.output, *TRAINING, "--warmup", 0, "--clip", 2, code=CANNOT_CREATE)
        self.assertIn("--warmup was 0.03 and is 0.0; --clip was 1.0 and is 2.0", ended.stderr)
        self.assertIn("--allow-change warmup", ended.stderr)
        ended = self.start(self.good, self.output, *TRAINING, "--clip", 2, "--allow-change", "clip", code=0)
        self.assertIn("going on from", ended.stderr)
        other = end_to_end.write_lines(self.own_path("other.jsonl"), [end_to_end.chat(i) for i in range(5, 35)])
        anew = self.own_path("anew")
        self.stop_soon(anew, 5)
        ended = self.start(self.good, anew, *TRAINING, data=other, code=CANNOT_CREATE)
        self.assertIn("what --data names has changed since the checkpoint was written", ended.stderr)
        ended = self.start(self.good, anew, *TRAINING, "--resume", "never", code=0)
        self.assertNotIn("going on from", ended.stderr)
        self.assertFalse([name for name in os.listdir(anew) if name.startswith("checkpoint-")])


if __name__ == "__main__":
    end_to_end.main()
