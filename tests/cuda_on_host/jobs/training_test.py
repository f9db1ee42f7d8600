"""autoglm-train on one and on two pretend cards: training_test.py PROGRAMS."""

import pathlib
import sys

from running import Job, prepare_folder, require, run_tests

programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
STEPS = ("--steps", 6)
OFFLOADED = ("--strategy", "zero3", "--weights", "host", "--offload-optimizer", 1, "--recompute", "full", "--steps", 3)


def trains_on_one_card():
    job = Job(programs, folder, "one", options=STEPS).succeed()
    result, rank = job.record["result"], job.record["ranks"][0]
    require(rank["device"].startswith("cuda"), f"it was trained on {rank['device']}")
    require(result["last_loss"] < result["first_loss"] - 1, f"the loss did not fall: {job.losses}")
    foreseen = job.record["plan"]["predicted_device_peak_bytes"]
    require(result["device_peak_bytes"] <= foreseen, f"{result['device_peak_bytes']} bytes, foreseen {foreseen}")


def two_cards_train_the_same():
    one, two = Job(programs, folder, "alone", options=STEPS), Job(programs, folder, "both", ranks=2, options=STEPS)
    for mine, theirs in zip(one.succeed().losses, two.succeed().losses):
        require(abs(mine - theirs) < 0.01 * mine, f"losses {one.losses} and {two.losses}")


def schedules_do_not_change_a_bit():
    weights = {}
    for schedule in ({"SCHEDULE": "immediate"}, {"SCHEDULE": "threads"}, {"DELAY_US": 500}):
        name = "_".join(f"{key}_{value}" for key, value in schedule.items())
        weights[name] = Job(programs, folder, name, ranks=2, options=OFFLOADED, environment=schedule).succeed().weights
    require(len(set(weights.values())) == 1, f"weights differ: {weights}")


run_tests([trains_on_one_card, two_cards_train_the_same, schedules_do_not_change_a_bit])
