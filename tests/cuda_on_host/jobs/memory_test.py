"""The memory that a job was foreseen to need, beside what LibTorch takes of a card, with nothing computed.

memory_test.py PROGRAMS
"""

import json
import os
import pathlib
import subprocess
import sys

from running import complaints, prepare_folder, require, run_tests

import gpu_check  # of scripts/gpu_check, where running.py looks too

programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
TITLES = ("8 GB, llama", "16 GB, glm4")  # of gpu_check's cases, those that need little memory of the host


def run_engine(request):
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(dict(request, device="cuda", mode="training", steps=2, seconds=100)))
    ended = subprocess.run([programs / "engine_run", asked, answered], text=True, stdout=subprocess.PIPE, timeout=150,
                           stderr=subprocess.STDOUT, env=dict(os.environ, CUDA_ON_HOST_BYTES_ONLY="yes"))
    require(ended.returncode == 0 and not complaints(ended.stdout), ended.stdout)
    return json.loads(answered.read_text())


def the_pool_is_foreseen():
    for title, request in gpu_check.memory_cases(False):
        if title not in TITLES:
            continue
        answer = run_engine(request)
        foreseen, measured = answer["foreseen"]["device"]["peak"], answer["measured"]["device"]["peak"]
        require(measured <= foreseen <= 1.001 * measured, f"{title}: {measured} bytes, foreseen {foreseen}")
        of_card, taken = answer["foreseen_device_total"], answer["measured_device_total"]
        require(abs(of_card - taken) < 0.01 * taken, f"{title}: {taken} bytes of the card, foreseen {of_card}")


run_tests([the_pool_is_foreseen])
