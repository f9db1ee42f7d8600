"""Checkpoints that cannot be written, and the best of them: what stays, what is told, and that a run ends well."""

import json
import os
import signal
import time

import end_to_end
from end_to_end import DIVERGING, NOT_FINITE, read_run
from running import RunningTest

STOPPED = 75
# Steps, validation, and a loss that rises again: the best step lies in the middle.
RISING = ("--steps", 50, "--evaluate-every", 10, "--validation", 0.2, "--learning-rate", 0.03, "--warmup", 0,
          "--schedule", "constant", "--keep", 1, "--keep-best")


def lines(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def events(output, kind="checkpoint"):
    return [line for line in lines(output) if line.get("event") == kind]


def losses(output):
    """The validation losses by step, but for those before the first and after the last one."""
    found = {line["step"]: line["validation_loss"] for line in lines(output) if "validation_loss" in line}
    return {step: found[step] for step in sorted(found)[1:-1]}


def checkpoints(output):
    return sorted(int(name.split("-")[1]) for name in os.listdir(output)
                  if name.startswith("checkpoint-") and "." not in name)


def manifest(output, step):
    return json.loads((output / f"checkpoint-{step}" / "manifest.json").read_text())


class SavingTest(RunningTest):
    def train(self, output, *options, fails="", code=0, **how):
        environment = {**os.environ, "AUTOGLM_FAULT_SAVE": fails}
        return self.start(self.good, output, *options, code=code, env=environment, **how).stderr

    def run_rising(self):
        output = self.own_path("whole")
        self.train(output, *RISING, "--export", "best")
        found = losses(output)
        best = min(found, key=found.get)
        self.assertTrue(min(found) < best < max(found), found)
        self.assertIn(best, checkpoints(output))
        return output, found, best

    def test_a_best_one_that_fails_does_not_count(self):
        """The former best stays, is what later ones are compared with, and is exported at the end."""
        _, found, best = self.run_rising()
        for ranks in (1, 2):
            output = self.own_path(f"failed-{ranks}")
            said = self.train(output, *RISING, "--export", "best", fails=f"{ranks - 1}:{best}", ranks=ranks)
            expected = None
            for step, loss in found.items():
                if step != best and (expected is None or loss < found[expected]):
                    expected = step
            self.assertIn(f"no checkpoint of step {best}: ", said)
            self.assertIn(f"the weights after step {expected} are written", said)
            self.assertIn(expected, checkpoints(output))
            newest = max(checkpoints(output))
            self.assertEqual(manifest(output, newest)["training"]["best"]["step"], expected)
            if ranks == 2:
                self.assertRegex(said, rf"no checkpoint of step {best}: rank 1 \(.+\): ")

    def test_a_best_one_that_is_gone_or_broken_ends_no_run(self):
        """The last weights are written, and a warning says why."""
        output, _, best = self.run_rising()
        expected = (output / "model.safetensors").read_bytes()
        for harm in ("none", "gone", "broken"):
            stopped = self.own_path(harm)
            process = self.begin(self.good, stopped, *RISING, "--export", "best", "--save-every", 1, until=lambda: True)
            self.wait_until(lambda: stopped.exists() and best in checkpoints(stopped), process)
            process.send_signal(signal.SIGUSR1)
            self.finish(process, STOPPED)
            self.assertNotEqual(checkpoints(stopped), [best])
            folder = stopped / f"checkpoint-{best}"
            if harm == "gone":
                folder.rename(self.own_path("elsewhere"))
            for path in folder.glob("states-*") if harm == "broken" else ():
                content = bytearray(path.read_bytes())
                content[-1] ^= 1
                path.write_bytes(content)
            said = self.train(stopped, *RISING, "--export", "best", "--save-every", 1)
            if harm == "none":
                self.assertEqual((stopped / "model.safetensors").read_bytes(), expected)
            if harm == "gone":
                self.assertIn(f"the checkpoint of step {best}, the best one until now, is not among the checkpoints", said)
            if harm == "broken":
                self.assertIn("cannot be used", said)
                self.assertIn("the last weights are written", said)
            self.assertTrue(read_run(stopped)["finished"])

    def test_from_another_folder_with_a_best_one(self):
        output, _, _ = self.run_rising()
        newest = max(checkpoints(output))
        other = self.own_path("other")
        self.train(other, *RISING, "--export", "best", "--resume", output / f"checkpoint-{newest}")
        self.assertTrue(read_run(other)["finished"])

    def test_a_failed_save_is_not_tried_again_at_once(self):
        self.train(self.output, "--steps", 40, "--save-every", 10, fails="0:10")
        self.assertEqual([event["step"] for event in events(self.output, "no_checkpoint")], [10])
        self.assertEqual(events(self.output), [])
        self.check_model(self.output, 40)

    def test_a_stop_waits_for_room(self):
        for ranks in (1, 2):
            output = self.own_path(f"stopped-{ranks}")
            process = self.begin(self.good, output, "--steps", 3000, ranks=ranks,
                                 environment={"AUTOGLM_FAULT_SAVE": f"{ranks - 1}:0,{ranks - 1}:0"})
            process.send_signal(signal.SIGUSR1)
            said = self.finish(process, STOPPED)
            self.assertEqual(said.count("the checkpoint to end with waits for it"), 2)
            self.assertNotIn("training goes on", said)
            step, = checkpoints(output)
            self.assertIn(f"stopped on request after step {step} of 3000, whose checkpoint is in place", said)
            event, = events(output)
            self.assertGreater(event["stall_seconds"], 0.5 * event["write_seconds"])

    def test_what_is_written_before_an_error_is_committed(self):
        for ranks in (1, 2):
            output = self.own_path(f"broken-{ranks}")
            self.train(output, *DIVERGING, "--save-every", 1, code=NOT_FINITE, ranks=ranks)
            self.assertFalse([name for name in os.listdir(output) if ".tmp-" in name])
            self.assertEqual(max(checkpoints(output)), max(event["step"] for event in events(output)))

    def test_files_of_others_in_an_old_checkpoint(self):
        process = self.begin(self.good, self.output, "--steps", 3000, "--save-every", 5, "--keep", 1,
                             until=lambda: True)
        self.wait_until(lambda: self.output.exists() and checkpoints(self.output), process)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, STOPPED)
        step, = checkpoints(self.output)
        (self.output / f"checkpoint-{step}" / "eval.json").write_text("{}")
        process = self.begin(self.good, self.output, "--steps", 3000, "--save-every", 5, "--keep", 1,
                             until=lambda: True)
        self.wait_until(lambda: step not in checkpoints(self.output), process)
        process.send_signal(signal.SIGUSR1)
        said = self.finish(process, STOPPED)
        self.assertIn("an older checkpoint is still there: ", said)
        self.assertNotIn("no checkpoint of step", said)
        kept, = self.output.glob(f"checkpoint-{step}.old-*/eval.json")
        self.assertEqual(kept.read_text(), "{}")

    def test_one_at_a_time(self):
        process = self.begin(self.good, self.output, "--steps", 200, "--save-every", 1, "--keep", 1, until=lambda: True)
        most = 0
        while process.poll() is None:
            if self.output.exists():
                most = max(most, len([name for name in os.listdir(self.output) if "checkpoint-" in name and ".tmp-" in name]))
            time.sleep(0.0005)
        self.finish(process)
        self.assertEqual(most, 1)

    def test_room_for_those_that_are_there(self):
        """A run that was stopped goes on where there is room for what it keeps, though most of it is taken by now."""
        output = self.mount("64m") / "output"
        options = ("--steps", 3000, "--save-every", 5, "--keep", 2)
        process = self.begin(self.good, output, *options, until=lambda: output.exists() and len(checkpoints(output)) == 2)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, STOPPED)
        # Room for half a checkpoint more than one.
        size = sum(path.stat().st_size for path in (output / f"checkpoint-{checkpoints(output)[0]}").iterdir())
        model = sum(path.stat().st_size for path in self.good.iterdir())
        free = os.statvfs(output)
        with open(output.parent / "filler", "wb") as file:
            file.write(bytes(free.f_bavail * free.f_frsize - model - size * 3 // 2))
        process = self.begin(self.good, output, *options, until=lambda: True)
        before = max(checkpoints(output))
        self.wait_until(lambda: max(checkpoints(output)) > before, process)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, STOPPED)


if __name__ == "__main__":
    end_to_end.main()
