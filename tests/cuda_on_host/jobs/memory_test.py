"""The memory that a job was foreseen to need, beside what LibTorch takes of a card, with nothing computed.

memory_test.py PROGRAMS [--all] [--only TEXT] [--table FILE]

A sample; with --all every case, a line each, which FILE keeps: what it holds already is not run again.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

from memory_cases import GB, HOST, LONGEST_SECONDS, matrix, whole_models
from running import REPOSITORY, Failure, complaints, prepare_folder, require, run_tests

SAMPLE = ("SmolLM2-135M, zero3, offloads nothing, 8 GB", "OPT-125M, zero1, offloads weights, 8 GB")
DOES_NOT_FIT = 78

parser = argparse.ArgumentParser()
parser.add_argument("programs", type=pathlib.Path)
parser.add_argument("--all", action="store_true")
parser.add_argument("--only", default="")
parser.add_argument("--table", type=pathlib.Path)
arguments = parser.parse_args()
folder = prepare_folder()


def run_engine(case, limit):
    """Exit code, what was said, and the answer."""
    asked, answered = folder / "request.json", folder / "answer.json"
    answered.unlink(missing_ok=True)
    capped = {"memory_limit": limit * GB} if limit else {}
    asked.write_text(json.dumps(dict(case.request, device="cuda", **capped)))
    command = [arguments.programs / "engine_run", asked, answered]
    if case.ranks > 1:
        command = [REPOSITORY / "scripts" / "mpirun_test.sh", str(case.ranks), *command]
    settings = dict(os.environ, CUDA_ON_HOST_BYTES_ONLY="yes", CUDA_ON_HOST_HOST_BYTES=str(HOST),
                    CUDA_ON_HOST_CARDS=str(case.ranks), CUDA_ON_HOST_CARD_BYTES=str(case.card))
    ended = subprocess.run(command, text=True, stdout=subprocess.PIPE, timeout=LONGEST_SECONDS,
                           stderr=subprocess.STDOUT, env=settings)
    return ended.returncode, ended.stdout, json.loads(answered.read_text()) if answered.exists() else None


def run_case(case):
    """The answer under the smallest of the case's limits that holds it."""
    for limit in case.limits:
        code, text, answer = run_engine(case, limit)
        if code != DOES_NOT_FIT:
            break
    require(code == 0 and not complaints(text), f"{case.title}: {code}: {text[-2000:]}")
    return dict(answer, cap=limit)


def difference(answer):
    """Bytes by which each of the pools, and the card, was foreseen wrongly."""
    found = {pool: answer["foreseen"][pool]["peak"] - answer["measured"][pool]["peak"]
             for pool in ("device", "host")}
    found["extent"] = answer["foreseen"]["device"]["extent"] - answer["measured"]["device"]["extent"]
    found["card"] = answer["foreseen_device_total"] - answer["measured_device_total"]
    return found


def line_of(case, answer):
    wrong = difference(answer)
    cap = f"{answer['cap']} GB" if answer["cap"] else "the card"
    return (f"{case.title} | {cap} | {answer['strategy']}, micro-batch {answer['micro_batch']} | "
            f"{answer['measured']['device']['peak']} | {answer['measured']['host']['peak']} | " +
            " | ".join(f"{name} {bytes:+d}" for name, bytes in wrong.items()))


def compare(case):
    answer = run_case(case)
    line = line_of(case, answer)
    print(line, flush=True)
    if arguments.table:
        with arguments.table.open("a") as table:
            table.write(line + "\n")
    return line, difference(answer)


def the_pools_are_foreseen_to_the_byte():
    cases = [*matrix(), *whole_models()]
    kept = arguments.table.read_text() if arguments.table and arguments.table.exists() else ""
    wrong = []
    for case in cases:
        chosen = arguments.only in case.title if arguments.only else arguments.all or case.title in SAMPLE
        if not chosen or case.title + " |" in kept:
            continue
        try:
            line, differences = compare(case)
        except Failure as failure:
            wrong.append(str(failure))
            continue
        if any(differences[pool] for pool in ("device", "host")):
            wrong.append(line)
    require(not wrong, "foreseen otherwise:\n" + "\n".join(wrong))


run_tests([the_pools_are_foreseen_to_the_byte])
