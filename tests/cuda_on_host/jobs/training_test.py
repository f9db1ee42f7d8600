"""autoglm-train on one and on two pretend cards: training_test.py PROGRAMS."""

import json
import pathlib
import subprocess
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


def the_probe_times_cards_and_links():
    plan = Job(programs, folder, "probed", ranks=2, options=("--steps", 1)).succeed().record["plan"]
    require(plan["rates"]["measured"], "nothing was measured")
    # Pretend cards are no faster than this host, and data sheets are. Products are too small a part of such a layer to
    # say how fast they are.
    for speed, most in (("memory_bandwidth", 4e11), ("link_bandwidth", 1e11),
                        ("message_bandwidth", 1e11), ("host_link_bandwidth", 1e11), ("host_memory_bandwidth", 4e11)):
        require(0 < plan["rates"][speed] < most, f"{speed} is {plan['rates'][speed]:.3g}")


def schedules_do_not_change_a_bit():
    weights = {}
    for schedule in ({"SCHEDULE": "immediate"}, {"SCHEDULE": "threads"}, {"DELAY_US": 500}):
        name = "_".join(f"{key}_{value}" for key, value in schedule.items())
        weights[name] = Job(programs, folder, name, ranks=2, options=OFFLOADED, environment=schedule).succeed().weights
    require(len(set(weights.values())) == 1, f"weights differ: {weights}")


def long_documents_among_short_ones_learn_as_on_the_cpu():
    # The backward's attention takes them in calls of their own.
    words = [f"number {i} is {'even' if i % 2 == 0 else 'odd'}" for i in range(64)]
    answers = [" ".join(words)] + words[:12] + [" ".join(words[:40])] + words[12:16]
    chats = folder / "long_and_short.jsonl"
    chats.write_text("".join(json.dumps({"messages": [{"role": "user", "content": "Count."},
                                                      {"role": "assistant", "content": answer}]}) + "\n"
                             for answer in answers))
    jobs = [Job(programs, folder, "long_" + device, options=(
        "--device", device, "--data", chats, "--sequence-length", 2048, "--global-batch", 2, "--steps", 4,
        "--learning-rate", 1e-3)).succeed() for device in ("cuda", "cpu")]
    for key in ("loss", "gradient_norm"):
        card, host = (job.metric(key) for job in jobs)
        require(len(card) == 4 and all(abs(a - b) < 0.01 * b for a, b in zip(card, host)), f"{key}: {card} and {host}")


def uploads_wait_for_cards_that_read_the_host():
    """A card that does not say so finds memory that was used again."""
    weights, slow = {}, {"DELAY_US": 2000}
    for how in ("no", "yes"):
        weights[how] = Job(programs, folder, f"reads_{how}", options=("--steps", 2),
                           environment=dict(slow, READS_HOST=how)).succeed().weights
    require(weights["yes"] == weights["no"], f"weights differ: {weights}")
    try:
        job = Job(programs, folder, "unsaid", options=("--steps", 2), environment=dict(slow, READS_HOST="unsaid"), seconds=60)
        require(job.code != 0 or job.weights != weights["no"], "memory that is used again was read in time")
    except subprocess.TimeoutExpired:
        pass  # what it read may also make it stand


run_tests([trains_on_one_card, two_cards_train_the_same, the_probe_times_cards_and_links, schedules_do_not_change_a_bit,
           long_documents_among_short_ones_learn_as_on_the_cpu, uploads_wait_for_cards_that_read_the_host])
