"""run.json and metrics.jsonl: what they hold, and what must not change the numbers in them."""

import pathlib

import end_to_end
import safetensors.torch
import torch
from end_to_end import EndToEndTest, make_model, read_run, tree

STEP_KEYS = {
    "step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens", "supervised_tokens", "step_seconds",
    "tokens_per_second", "device_peak_bytes", "host_peak_bytes", "predicted_device_peak_bytes", "exposed_seconds",
}
TIMED = {"step_seconds", "exposed_seconds", "tokens_per_second", "host_peak_bytes"}


def weights(output):
    return {name: data for name, data in tree(output).items() if name.endswith(".safetensors")}


def tensors(folder):
    files = sorted(pathlib.Path(folder).glob("*.safetensors"))
    return {name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()}


def without_times(steps):
    return [{key: value for key, value in step.items() if key not in TIMED} for step in steps]


class MetricsTest(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.models = {family: make_model(cls.folder / family, family) for family in end_to_end.FAMILIES}

    def test_what_is_written(self):
        output = self.own_path("run")
        steps, evaluations = self.train(self.models["llama_tied"], output, "--epochs", 2, "--global-batch", 5,
                                        "--validation", self.validation, "--evaluate-every", 2, ranks=2)
        record = read_run(output)
        plan, options = record["plan"], record["options"]
        self.assertTrue(record["finished"])
        self.assertEqual(len(record["ranks"]), 2)
        self.assertEqual(record["versions"]["libtorch"].split("+")[0], torch.__version__.split("+")[0])
        self.assertEqual((options["epochs"], options["global-batch"], options["seed"]), (2, 5, 42))
        self.assertEqual(options["output"], str(output))
        self.assertEqual(record["result"]["last_loss"], steps[-1]["loss"])
        self.assertEqual(record["result"]["last_validation_loss"], evaluations[-1]["validation_loss"])
        self.assertLessEqual(record["started_at"], record["ended_at"])

        self.assertEqual([step["step"] for step in steps], list(range(1, plan["steps"] + 1)))
        self.assertEqual({frozenset(step) for step in steps}, {frozenset(STEP_KEYS)})
        epochs = [step["epoch"] for step in steps]
        self.assertEqual(epochs, sorted(set(epochs)))
        self.assertIn(1, epochs)
        self.assertEqual(epochs[-1], 2)
        for step in steps:
            self.assertLess(0, step["supervised_tokens"])
            self.assertLess(step["supervised_tokens"], step["tokens"])
            self.assertLessEqual(step["tokens"], 5 * 128)
            self.assertAlmostEqual(step["tokens"] / step["step_seconds"] / step["tokens_per_second"], 1, places=3)
            self.assertLess(0, step["gradient_norm"])
        half = len(steps) // 2
        self.assertEqual(sum(step["tokens"] for step in steps[:half]), sum(step["tokens"] for step in steps[half:]))
        ends_of_epochs = {half, 2 * half}
        due = sorted({0} | ends_of_epochs | set(range(2, len(steps), 2)))
        self.assertEqual([evaluation["step"] for evaluation in evaluations], due)
        self.assertEqual({frozenset(one) for one in evaluations}, {frozenset(("step", "validation_loss"))})

    def test_prediction(self):
        """Predicted is never below measured, and at most 1 % above."""
        cases = [
            ("llama_tied", 1, "none", 1, 128, "fp32"), ("llama_tied", 4, "full", 1, 128, "bf16"),
            ("llama_untied", 2, "cheap", 1, 64, "fp32"), ("llama_untied", 3, "none", 2, 256, "bf16"),
            ("glm4", 1, "full", 2, 128, "fp32"), ("glm4", 2, "none", 1, 200, "bf16"),
            ("glm4", 4, "cheap", 1, 128, "bf16"),
        ]
        for case in cases:
            family, micro_batch, recompute, ranks, length, precision = case
            with self.subTest(case=case):
                output = self.own_path("-".join(map(str, case)))
                steps, _ = self.train(self.models[family], output, "--micro-batch", micro_batch, "--recompute",
                                      recompute, "--sequence-length", length, "--precision", precision,
                                      "--validation", self.validation, "--steps", 2, "--sample", "Who are you?",
                                      ranks=ranks)
                for step in steps:
                    predicted, measured = step["predicted_device_peak_bytes"], step["device_peak_bytes"]
                    self.assertGreaterEqual(predicted, measured)
                    self.assertLessEqual(predicted, 1.01 * measured)
                self.assertEqual(read_run(output)["plan"]["predicted_device_peak_bytes"], predicted)

    def test_dry_run_writes_nothing(self):
        before = tree(self.folder)
        for ranks in (1, 2):
            ended = self.start(self.models["llama_tied"], self.own_path("new"), "--dry-run", "--validation", 0.2,
                               ranks=ranks, code=0)
            self.assertIn("30 read, 30 kept", ended.stderr)
            self.assertIn("3 steps", ended.stderr)
        self.assertEqual(tree(self.folder), before)

    def test_two_runs_are_the_same(self):
        outputs = [self.own_path("first"), self.own_path("second")]
        runs = [self.train(self.models["glm4"], output, "--precision", "bf16", "--validation", 0.2, ranks=2)
                for output in outputs]
        self.assertEqual(without_times(runs[0][0]), without_times(runs[1][0]))
        self.assertEqual(runs[0][1], runs[1][1])
        self.assertEqual(weights(outputs[0]), weights(outputs[1]))
        other, _ = self.train(self.models["glm4"], self.own_path("other"), "--precision", "bf16", "--validation", 0.2,
                              "--seed", 43, ranks=2)
        self.assertNotEqual([step["loss"] for step in other], [step["loss"] for step in runs[0][0]])

    def test_ranks_do_not_change_the_loss(self):
        """A global batch that divides by neither number of ranks, and a last batch that is smaller."""
        curves = {}
        for ranks in (1, 2, 3):
            steps, evaluations = self.train(self.models["llama_untied"], self.own_path(ranks), "--global-batch", 5,
                                            "--epochs", 2, "--validation", self.validation, "--sequence-length", 160,
                                            ranks=ranks)
            self.assertLess(min(step["tokens"] for step in steps), 0.7 * max(step["tokens"] for step in steps))
            curves[ranks] = [step["loss"] for step in steps] + [one["validation_loss"] for one in evaluations]
        for ranks in (2, 3):
            self.assertEqual(len(curves[ranks]), len(curves[1]))
            for mine, theirs in zip(curves[1], curves[ranks]):
                self.assertLess(abs(mine - theirs) / mine, 1e-5)

    def test_recompute_keeps_every_bit(self):
        files, curves = [], []
        for options in (["none"], ["cheap"], ["full"], ["full", "--recompute-layers", 1]):
            output = self.own_path("-".join(map(str, options)))
            steps, _ = self.train(self.models["glm4"], output, "--precision", "bf16", "--recompute", *options, ranks=2)
            files.append(weights(output))
            curves.append([(step["loss"], step["gradient_norm"]) for step in steps])
        for other in range(1, 4):
            self.assertEqual(curves[other], curves[0])
            self.assertEqual(files[other], files[0])

    def test_strategy_keeps_every_bit(self):
        strategies = {
            1: [["ddp"], ["zero2", "--offload-optimizer", 0.5], ["zero3", "--weights", "host"],
                ["ddp", "--master", "plain", "--weights", "host", "--offload-optimizer", 1]],
            2: [["ddp"], ["zero1", "--master", "plain"], ["zero2", "--weights", "host", "--offload-optimizer", 0.37],
                ["zero3", "--recompute", "full", "--offload-activations", 1], ["zero3", "--offload-optimizer", 1]],
        }
        for ranks, choices in strategies.items():
            files, curves = [], []
            for options in choices:
                output = self.own_path(f"{ranks}-" + "-".join(map(str, options)))
                steps, evaluations = self.train(self.models["llama_tied"], output, "--precision", "bf16",
                                                "--validation", self.validation, "--sample", "Who are you?",
                                                "--strategy", *options, ranks=ranks)
                files.append(weights(output))
                curves.append([(step["loss"], step["gradient_norm"]) for step in steps] + evaluations)
                for step in steps:
                    self.assertEqual(step["predicted_device_peak_bytes"], step["device_peak_bytes"], options)
            for other in range(1, len(choices)):
                self.assertEqual(curves[other], curves[0], choices[other])
                self.assertEqual(files[other], files[0], choices[other])

    def test_frozen_parameters_stay_as_they_were(self):
        before = tensors(self.models["glm4"])
        output = self.own_path("frozen")
        self.train(self.models["glm4"], output, "--freeze", "model.embed_tokens.*", "--freeze", "*.layers.0.*",
                   "--strategy", "zero3", ranks=2)
        for name, values in tensors(output).items():
            frozen = "embed_tokens" in name or ".layers.0." in name
            self.assertEqual(torch.equal(values, before[name]), frozen, name)

    def test_samples_are_answered(self):
        ended = self.start(self.models["glm4"], self.own_path("run"), "--sample", "Who are you?", ranks=2, code=0)
        self.assertEqual(ended.stderr.count("Who are you?") + ended.stdout.count("Who are you?"), 2, ended)


if __name__ == "__main__":
    end_to_end.main()
