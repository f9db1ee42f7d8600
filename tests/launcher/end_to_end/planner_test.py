#!/usr/bin/env python3
"""What the planner promises of a whole run: what fits is chosen and fits, out of memory is met, and what cannot be is
said in one sentence."""

import os
import random

import end_to_end
from end_to_end import DOES_NOT_FIT, make_model, read_metrics, read_run

FAULTS, LIMIT = "AUTOGLM_FAULT_OUT_OF_MEMORY", "AUTOGLM_FAULT_ARENA_LIMIT"
PHASE = "(construction|forward|head|backward) phase"


class PlannerTest(end_to_end.EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = make_model(cls.folder / "model", num_hidden_layers=6, hidden_size=96, intermediate_size=256)

    def run_job(self, name, *options, ranks=2, faults=None, limit=None, code=0):
        environment = dict(os.environ)
        if faults:
            environment[FAULTS] = faults
        if limit:
            environment[LIMIT] = str(limit)
        output = self.folder / name
        ended = self.start(self.model, output, "--global-batch", 8, *options, ranks=ranks, env=environment, code=code)
        return output, ended

    def least_plan(self):
        """What the job needs with everything that saves memory, from a limit that nothing fits in."""
        _, ended = self.run_job("never", "--precision", "bf16", "--memory-limit", "1MiB", "--dry-run",
                                code=DOES_NOT_FIT)
        return ended.stderr

    def test_chooses_what_fits_and_fits(self):
        output, _ = self.run_job("free", "--precision", "bf16")
        plan = read_run(output)["plan"]
        self.assertEqual(plan["recompute"], "none")  # with all the memory there is, nothing is computed twice
        self.assertTrue(plan["rates"]["measured"])
        free = plan["predicted_device_peak_bytes"]
        for share in (0.8, 0.6, 0.45):
            limit = int(share * free)
            with self.subTest(share=share):
                output, ended = self.run_job(f"limit-{share}", "--precision", "bf16", "--memory-limit", limit)
                run = read_run(output)
                self.assertLessEqual(run["result"]["device_peak_bytes"], limit)
                self.assertEqual(run["result"]["device_peak_bytes"], run["plan"]["predicted_device_peak_bytes"])
                self.assertEqual(run["result"]["memory_events"], [])
                self.assertNotIn("warning", ended.stderr.lower())

    def test_what_is_set_is_never_overridden(self):
        for options, expected in ((("--strategy", "zero1"), ("strategy", "zero1")),
                                  (("--recompute", "full"), ("recompute", "full")),
                                  (("--micro-batch", 2), ("micro_batch", 2)),
                                  (("--offload-optimizer", 0.5), ("offload_optimizer", 0.5)),
                                  (("--weights", "host"), ("weights", "host")),
                                  (("--head-chunks", 3), ("head_chunks", 3))):
            _, ended = self.run_job("pinned", *options, "--dry-run")
            output, _ = self.run_job("pinned-" + options[0].strip("-"), *options)
            name, value = expected
            self.assertEqual(read_run(output)["plan"][name], value)

    def test_nothing_fits(self):
        text = self.least_plan()
        change = "it would fit with" if "it would" in text else "nothing that the planner could change"
        for word in ("nothing fits", "1.0 MiB", "phase", change):
            self.assertIn(word, text)
        self.assertEqual(sum(bool(line.strip()) for line in text.splitlines() if line.startswith("autoglm-train")), 1)
        # A pin that stands in the way is named as the cheapest change.
        output, _ = self.run_job("fits", "--precision", "bf16", "--recompute", "full", "--strategy", "zero3")
        limit = read_run(output)["plan"]["predicted_device_extent_bytes"]
        _, ended = self.run_job("pins", "--precision", "bf16", "--strategy", "ddp", "--recompute", "none", "--weights",
                                "resident", "--offload-optimizer", 0, "--memory-limit", limit, code=DOES_NOT_FIT)
        self.assertIn("it would fit with the strategy's options left to auto", ended.stderr)

    def test_a_limit_that_the_plan_does_not_know(self):
        """Exactly enough is enough; less is met by a smaller plan; what no plan fits in ends the job."""
        reference, _ = self.run_job("reference", "--steps", 6)
        extent = read_run(reference)["plan"]["predicted_device_extent_bytes"]
        exact, ended = self.run_job("exact", "--steps", 6, limit=extent)
        self.assertEqual(read_run(exact)["result"]["memory_events"], [])
        losses = [step["loss"] for step in read_metrics(reference)[0]]
        for share in (0.98, 0.7):
            less, ended = self.run_job(f"less-{share}", "--steps", 6, limit=int(share * extent))
            events = read_run(less)["result"]["memory_events"]
            self.assertTrue(events)
            self.assertRegex(events[0]["what"], rf"rank 0: {PHASE}.* for \w+ do not fit")
            self.assertIn("going on with", ended.stderr)
            for mine, theirs in zip(losses, [step["loss"] for step in read_metrics(less)[0]]):
                self.assertLess(abs(mine - theirs), 1e-5 * mine)
        _, ended = self.run_job("stop", "--on-oom", "stop", limit=int(0.7 * extent), code=DOES_NOT_FIT)
        self.assertIn("--on-oom shrink", ended.stderr)
        _, ended = self.run_job("hopeless", limit="1MiB", code=DOES_NOT_FIT)
        self.assertRegex(ended.stderr, PHASE)

    def test_injected_failures_change_nothing(self):
        """A failure in every step, on a rank and at a moment drawn at random: the step runs until it gets through."""
        draw = random.Random(7)
        steps = 130
        plain, _ = self.run_job("undisturbed", "--steps", steps, "--recompute", "none", ranks=3)
        faults = [f"{draw.randrange(3)}:{step}:{draw.randrange(1, 90)}" for step in range(1, steps + 1)]
        once, _ = self.run_job("once", "--steps", steps, "--recompute", "none", ranks=3, faults=",".join(faults))
        events = read_run(once)["result"]["memory_events"]
        print(f"{len(events)} of {steps} failures met an allocation", flush=True)
        self.assertGreaterEqual(len(events), 100)
        expected = [step["loss"] for step in read_metrics(plain)[0]]
        self.assertEqual([step["loss"] for step in read_metrics(once)[0]], expected)  # the same plan: the same bits
        # The second failure in a step makes the plan smaller.
        again = [f"{draw.randrange(3)}:{step}:{draw.randrange(1, 90)}" for step in range(1, 7)]
        twice, _ = self.run_job("twice", "--steps", steps, ranks=3, faults=",".join(again + faults[:6]))
        run = read_run(twice)
        self.assertGreater(len(run["result"]["memory_events"]), 4)
        actual = [step["loss"] for step in read_metrics(twice)[0]]
        self.assertLess(abs(actual[-1] - expected[-1]), 1e-5 * expected[-1])

    def test_resident_memory(self):
        """On runs of over 500 MB of tensors: the process's own high-water mark, from the kernel."""
        model = make_model(self.folder / "large", hidden_size=1024, intermediate_size=2816, num_hidden_layers=5)
        for name, options, ranks in (("ddp", ("--strategy", "ddp"), 1),
                                     ("zero3", ("--strategy", "zero3", "--recompute", "full"), 2),
                                     ("host", ("--strategy", "zero2", "--offload-optimizer", 1, "--weights", "host"),
                                      2)):
            output = self.folder / ("resident-" + name)
            self.train(model, output, *options, "--precision", "fp32", "--steps", 2, ranks=ranks)
            run = read_run(output)
            tensors = run["result"]["device_peak_bytes"] + run["result"]["host_pool_peak_bytes"]
            self.assertGreater(tensors, 500e6)
            measured = run["result"]["resident_peak_bytes"]["training"]
            error = run["plan"]["predicted_resident_bytes"] / measured - 1
            print(f"{name}: {measured / 1e6:.0f} MB resident, prediction {100 * error:+.2f} %", flush=True)
            self.assertGreaterEqual(error, 0)
            self.assertLessEqual(error, 0.05)


if __name__ == "__main__":
    end_to_end.main()
