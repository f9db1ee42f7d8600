"""Trainings on pretend cards that are stopped and killed at random moments end as one that never was: stops_test.py
PROGRAMS [--stops N] [--seed N].

What is offloaded comes from the host and what is not from cards, through the pieces that a save copies it to.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from running import REPOSITORY, Job, command_of, complaints, prepare_folder, require, run_tests

sys.path.insert(0, str(REPOSITORY / "tests" / "launcher" / "end_to_end"))
import stops  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("programs", type=pathlib.Path)
parser.add_argument("--stops", type=int, default=2, help="of each training")
parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
settings = parser.parse_args()
folder = prepare_folder()
TIMES = {"step_seconds", "tokens_per_second", "device_peak_bytes", "host_peak_bytes", "exposed_seconds",
         "predicted_device_peak_bytes"}
KINDS = ("asked", "killed", "killed in a save")
SECONDS = 120


def metrics_of(output):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines if "event" not in line]


def wait_until(condition, job):
    end = time.monotonic() + SECONDS
    while job.poll() is None and not condition():
        require(time.monotonic() < end, "nothing happens any more")
        time.sleep(0.002)


def stop(output, kind, wait, command, environment):
    """Begins the training, or goes on with it, and stops it; its exit code and what it said."""
    done = stops.steps_done(output)
    said = folder / "said"
    with open(said, "w", encoding="utf-8") as file:
        job = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        wait_until(lambda: stops.steps_done(output) >= done + wait, job)
        if kind == "killed in a save":
            begun = stops.saves_begun(output)
            wait_until(lambda: not stops.saves_begun(output) <= begun, job)
        if kind == "asked":
            stops.send(job.pid, signal.SIGUSR1)
            code = job.wait(timeout=SECONDS)
        else:
            stops.kill_all(job)
            code = job.wait(timeout=SECONDS)
        stops.wait_until_gone(job, SECONDS)
    finally:
        stops.kill_all(job)
    return code, said.read_text(errors="replace")


def compare(name, ranks, *options):
    chosen = random.Random(f"{settings.seed} {name}")
    options = ("--steps", 8 + 4 * settings.stops, "--validation", 0.2, "--save-every", 1, "--keep", 1000, *options)
    os.environ["AUTOGLM_FAULT_SAVES_ALONE"] = "1"  # states of every step to compare with
    whole = Job(settings.programs, folder, f"{name}_whole", ranks, options).succeed()
    del os.environ["AUTOGLM_FAULT_SAVES_ALONE"]
    digests = {step: stops.digest_of(path) for step, path in stops.checkpoints_in(whole.output)}
    output = folder / name
    command, environment = command_of(settings.programs, folder, name, ranks, options, {})
    kinds = [KINDS[number % len(KINDS)] for number in range(settings.stops)]
    chosen.shuffle(kinds)
    compared, in_saves = set(), 0

    def check_states():
        for step, path in stops.checkpoints_in(output):
            if step in digests:
                require(stops.digest_of(path) == digests[step], f"{name}: other states after step {step}")
                compared.add(step)

    for kind in kinds:
        code, said = stop(output, kind, chosen.randint(1, 5), command, environment)
        require(code == (stops.STOPPED if kind == "asked" else -signal.SIGKILL), f"{name}: {kind}: {code}: {said}")
        require(not complaints(said), f"{name}: {said}")
        in_saves += bool(stops.saves_begun(output))
        check_states()
    Job(settings.programs, folder, name, ranks, options).succeed()
    check_states()
    require((output / "model.safetensors").read_bytes() == (whole.output / "model.safetensors").read_bytes(),
            f"{name}: other weights")
    require(metrics_of(output) == metrics_of(whole.output), f"{name}: other metrics")
    require(compared, f"{name}: no states were compared")
    print(f"{name}: {kinds}, {in_saves} in a save; states compared after {len(compared)} steps", flush=True)
    shutil.rmtree(output)
    shutil.rmtree(whole.output)


def one_card_with_half_of_the_optimizer_on_the_host():
    compare("half", 1, "--offload-optimizer", 0.5)


def two_cards_with_everything_on_the_host():
    compare("host", 2, "--strategy", "zero3", "--weights", "host", "--offload-optimizer", 1, "--recompute", "full")


def two_cards_with_sharded_states():
    compare("cards", 2, "--strategy", "zero2")


print(f"--seed {settings.seed}", flush=True)
run_tests([one_card_with_half_of_the_optimizer_on_the_host, two_cards_with_everything_on_the_host,
           two_cards_with_sharded_states])
