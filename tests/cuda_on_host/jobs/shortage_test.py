"""Cards that turn out to be full while a job runs, and libraries that find no memory in their own words: the plan shrinks, the
void step is run again and no bit changes; or the job ends with a sentence.

shortage_test.py PROGRAMS
"""

import pathlib
import re
import sys

from running import Job, prepare_folder, require, run_tests

programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
DOES_NOT_FIT = 78
NUM_STEPS = 4
# As much for activations that the steps need more than what the job takes at its start.
SMALL, LARGE = (), ("--sequence-length", 256, "--global-batch", 8)
done = {}


class Undisturbed:
    """A job by its ranks and options, run once; and how many calls took memory in it, on the rank with the fewest."""

    def __init__(self, ranks, options):
        self.job = run(ranks, options, "count").succeed()
        found = [dict(re.findall(r"(\w+) (\d+)", line)) for line in self.job.text.splitlines() if "take memory" in line]
        require(len(found) == ranks, f"{len(found)} ranks counted their calls")
        self.calls = {kind: min(int(one[kind]) for one in found) for kind in found[0]}


def run(ranks, options, shortage):
    run.number = getattr(run, "number", 0) + 1
    return Job(programs, folder, f"job{run.number}", ranks, ("--steps", NUM_STEPS, *options),
               {"OUT_OF_MEMORY": shortage})


def undisturbed(ranks, options=SMALL):
    key = ranks, options
    if key not in done:
        done[key] = Undisturbed(ranks, options)
    return done[key]


def late_product(plain):
    """One after the first step: the probe and that step have fewer than two thirds of all."""
    return int(0.75 * plain.calls["product"])


def events_of(job):
    return job.succeed().record["result"]["memory_events"]


def require_same(job, plain):
    require(job.losses == plain.losses, f"losses {job.losses} instead of {plain.losses}:\n{job.text}")
    require(job.weights == plain.weights, f"other weights:\n{job.text}")


def require_refusal(job, *words):
    require(job.code == DOES_NOT_FIT, f"ended with {job.code} instead of {DOES_NOT_FIT}:\n{job.text}")
    said = [line for line in job.text.splitlines() if line.startswith("autoglm-train: ")]
    require(len(said) == 1, f"{len(said)} sentences:\n{job.text}")
    for word in words:
        require(word in said[0], f"'{word}' is not in: {said[0]}")


def a_later_step_is_run_again_with_a_smaller_plan():
    """cuBLAS finds no memory; when the same plan meets that once more, another one is made."""
    for ranks in (1, 2):
        plain = undisturbed(ranks)
        call = late_product(plain)
        job = run(ranks, SMALL, f"product:{call}:{ranks - 1},product:{call + 9}:{ranks - 1}")
        events = events_of(job)
        require(len(events) == 2 and all(event["step"] > 1 for event in events), f"events: {events}")
        require(all(f"rank {ranks - 1}: " in event["what"] and "ALLOC_FAILED" in event["what"] for event in events),
                f"events: {events}")
        require(events[0]["strategy"] != events[1]["strategy"], f"the plan stayed: {events}")
        require_same(job, plain.job)


def a_card_that_gives_no_more_in_a_step():
    for ranks in (1, 2):
        plain = undisturbed(ranks, LARGE)
        job = run(ranks, LARGE, f"memory:{plain.calls['memory']}:{ranks - 1}")
        events = events_of(job)
        require(events and "the device gives no more" in events[0]["what"], f"events: {events}")
        require(events[0]["step"] > 0 and "phase of step" in events[0]["what"], f"events: {events}")
        require_same(job, plain.job)


def it_stops_where_it_is_told_to():
    job = run(1, ("--on-oom", "stop"), f"product:{late_product(undisturbed(1))}")
    require_refusal(job, "phase of step", "ALLOC_FAILED", "--on-oom shrink would go on")
    require("phase of step 1" not in job.text, job.text)


def it_ends_when_no_plan_is_small_enough():
    require_refusal(run(1, SMALL, f"product:{undisturbed(1).calls['product'] // 2}+"), "ALLOC_FAILED", "left to try")


def a_kernel_that_cannot_be_loaded():
    """Wherever that is met, the numbers stay, or the job says what it lacked."""
    met = 0
    for ranks, calls in ((1, (1, 3, 7, 12, 17, 21, 22, undisturbed(1).calls["kernel"])),
                         (2, (20, undisturbed(2).calls["kernel"]))):
        for call in calls:
            job = run(ranks, SMALL, f"kernel:{call}:{ranks - 1}")
            if job.code == 0:
                require_same(job.succeed(), undisturbed(ranks).job)
            else:
                met += 1
                require_refusal(job, "out of memory", "end ")
    require(met > 0, "no kernel was missed")


def a_card_that_is_full_from_the_beginning():
    """Or for a moment, when the job takes its first piece."""
    require_refusal(run(1, SMALL, "memory:1+"), "out of memory", "nvidia-smi")
    require_same(run(1, SMALL, "memory:1").succeed(), undisturbed(1).job)


def nccl_finds_no_memory():
    """At the start, where all ranks connect, and in a step."""
    for call, words in ((3, ("no room for what every job takes first",)),
                        (undisturbed(2).calls["message"] - 8, ("lower --memory-limit",))):
        require_refusal(run(2, SMALL, f"message:{call}:1"), "rank 1", "NCCL", "out of memory", *words)


run_tests([a_later_step_is_run_again_with_a_smaller_plan, a_card_that_gives_no_more_in_a_step,
           it_stops_where_it_is_told_to, it_ends_when_no_plan_is_small_enough, a_kernel_that_cannot_be_loaded,
           a_card_that_is_full_from_the_beginning, nccl_finds_no_memory])
