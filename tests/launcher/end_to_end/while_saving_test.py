"""What a save costs the training beside it: memory as foreseen, and what is told of it; and when there is no time for one."""

import json
import signal

import end_to_end
from end_to_end import read_metrics, read_run
from running import RunningTest

STOPPED = 75
TRAINING = ("--global-batch", 4, "--micro-batch", 2, "--learning-rate", 1e-3)


def events(output, kind):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == kind]


class WhileSavingTest(RunningTest):
    def test_memory_is_what_was_foreseen(self):
        """The same bytes with a save after each step as without: what it goes through is counted from the beginning."""
        for ranks, options in ((1, ()), (2, ("--strategy", "zero3", "--offload-optimizer", 0.5, "--precision", "bf16", "--master", "split"))):
            peaks = []
            for save in ("never", 1):
                output = self.own_path(f"{ranks}-{save}")
                self.start(self.good, output, *TRAINING, *options, "--steps", 12, "--save-every", save, ranks=ranks, code=0)
                plan, result = read_run(output)["plan"], read_run(output)["result"]
                self.assertEqual(result["device_peak_bytes"], plan["predicted_device_peak_bytes"])
                peaks.append([step["device_peak_bytes"] for step in read_metrics(output)[0]])
                saved = events(output, "checkpoint")
                if save == "never":
                    self.assertFalse(saved)
                    continue
                self.assertGreaterEqual(len(saved), 2)
                for one in saved:
                    self.assertGreater(one["bytes"], 0)
                    self.assertGreaterEqual(one["write_seconds"], 0)
                    self.assertGreaterEqual(one["stall_seconds"], 0)
            self.assertEqual(*peaks)

    def test_what_there_is_no_time_for_is_not_begun(self):
        """Who sends SIGTERM is said to kill at once: the checkpoint before counts, and the run goes on from it."""
        whole = self.own_path("whole")
        steps = ("--steps", 60)
        self.start(self.good, whole, *TRAINING, *steps, code=0)
        said = ""
        for count in (2, 4, 6, 8):
            process = self.begin(self.good, self.output, *TRAINING, *steps, "--save-every", 2,
                                 environment=[("AUTOGLM_FAULT_STOP_PATIENCE", "0")],
                                 until=lambda: (self.output / "latest").exists()
                                 and len(events(self.output, "checkpoint")) >= count)
            process.send_signal(signal.SIGTERM)
            said = self.finish(process, STOPPED)
            self.assertRegex(said, r"stopped on request after step \d+ of 60, ")
            if "no time" in said:  # else the save before had ended just then
                break
        self.assertRegex(said, r"for whose checkpoint there was no time: that of step \d+ is in place")
        self.start(self.good, self.output, *TRAINING, *steps, code=0)
        self.assertEqual((self.output / "model.safetensors").read_bytes(), (whole / "model.safetensors").read_bytes())


if __name__ == "__main__":
    end_to_end.main()
