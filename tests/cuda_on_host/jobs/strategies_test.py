"""Every strategy gives the same bits on two, four and eight pretend cards: strategies_test.py PROGRAMS [--all]

As many as a share of the time allows; with --all every one, under three schedules on two cards.
"""

import argparse
import json
import os
import pathlib
import subprocess

from running import REPOSITORY, complaints, prepare_folder, require, run_tests

import models

GB = 10**9
SAMPLE_SECONDS = {2: 12, 4: 15, 8: 20}  # about 20, 10 and 4 strategies on two cores
LEAST = {2: 6, 4: 4, 8: 2}
IN_BF16 = dict(pins=dict(reduce_dtype="bf16"))
WHOLE_SECONDS = 5400
SCHEDULES = ({"SCHEDULE": "immediate"}, {"SCHEDULE": "threads"}, {"DELAY_US": 200})

parser = argparse.ArgumentParser()
parser.add_argument("programs", type=pathlib.Path)
parser.add_argument("--all", action="store_true")
arguments = parser.parse_args()
folder = prepare_folder()


def compare(ranks, seconds, settings=None, **changes):
    """The answer of engine_run, which compared strategies for so many seconds."""
    asked, answered = folder / "request.json", folder / "answer.json"
    answered.unlink(missing_ok=True)
    asked.write_text(json.dumps(dict(mode="matrix", config=models.TINY_GLM4, device="cuda", memory_limit=2 * GB, steps=3,
                                     row_length=48, seconds=seconds, **changes)))
    environment = dict(os.environ, CUDA_ON_HOST_CARDS=str(ranks), CUDA_ON_HOST_MISUSE="stop")
    environment.update({"CUDA_ON_HOST_" + key: str(value) for key, value in (settings or {}).items()})
    command = [REPOSITORY / "scripts" / "mpirun_test.sh", str(ranks), arguments.programs / "engine_run", asked, answered]
    ended = subprocess.run(command, env=environment, timeout=seconds + 120, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, errors="replace")
    require(ended.returncode == 0 and not complaints(ended.stdout), f"{ended.returncode}: {ended.stdout[-3000:]}")
    return json.loads(answered.read_text())


def judge(ranks, answer, least):
    print(f"{ranks} cards: {answer['compared']} of {answer['strategies']} strategies compared", flush=True)
    require(not answer["different"], f"not the same bits on {ranks} cards: {answer['different'][:5]}")
    require(answer["repeats"] and answer["learns"], f"the plain training of {ranks} ranks: {answer['losses']}")
    require(answer["compared"] >= least, f"only {answer['compared']} strategies in time on {ranks} cards")


def sample_on(ranks):
    def test():
        judge(ranks, compare(ranks, SAMPLE_SECONDS[ranks]), LEAST[ranks])
    test.__name__ = f"on_{ranks}_cards"
    return test


def gradients_in_bf16_on(ranks):
    def test():
        answer = compare(ranks, SAMPLE_SECONDS[ranks], **IN_BF16)
        judge(ranks, answer, LEAST[ranks])
        exact = compare(ranks, 0)
        require(answer["digest"] != exact["digest"], "nothing was rounded")
        require(all(abs(a - b) < 0.01 * b for a, b in zip(answer["losses"], exact["losses"])),
                f"losses {answer['losses']} and {exact['losses']}")
    test.__name__ = f"gradients_in_bf16_on_{ranks}_cards"
    return test


def all_on(ranks, precision):
    def test():
        answer = compare(ranks, WHOLE_SECONDS, precision=precision)
        judge(ranks, answer, answer["strategies"])
    test.__name__ = f"all_on_{ranks}_cards_in_{precision}"
    return test


def schedules_give_the_same_bits():
    digests = {}
    for settings in SCHEDULES:
        answer = compare(2, WHOLE_SECONDS, settings)
        judge(2, answer, answer["strategies"])
        digests[str(settings)] = answer["digest"]
    require(len(set(digests.values())) == 1, f"weights differ: {digests}")


if arguments.all:
    run_tests([schedules_give_the_same_bits, all_on(2, "fp32"), all_on(4, "bf16"), all_on(8, "bf16")])
run_tests([*(sample_on(ranks) for ranks in SAMPLE_SECONDS), gradients_in_bf16_on(4)])
