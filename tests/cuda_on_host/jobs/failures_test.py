"""Cards that are full or shared, and peers that die, as autoglm-train meets them.

failures_test.py PROGRAMS LIBRARIES
"""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

from running import Job, command_of, prepare_folder, require, run_tests

programs, libraries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
folder = prepare_folder()
MIB = 1 << 20
GIB = 1 << 30
STEPS = ("--steps", 2)

# Another program on the card: takes so many bytes, says so, and keeps them.
HOLDER = """
import ctypes, sys, time
cudart = ctypes.CDLL(sys.argv[1])
cudart.cudaSetDevice(0)
pointer = ctypes.c_void_p()
print(cudart.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[2]))), flush=True)
time.sleep(600)
"""


def hold(ledger, count):
    settings = dict(os.environ, CUDA_ON_HOST_LEDGER=ledger, CUDA_ON_HOST_BYTES_ONLY="yes")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(libraries / "libcudart.so.13"), str(count)],
                              env=settings, stdout=subprocess.PIPE, text=True)
    require(holder.stdout.readline().strip() == "0", "the other program got no memory")
    return holder


def limit_of(job):
    """What the plan may use of a card, in GiB."""
    return float(re.search(r" of ([0-9.]+) GiB per rank foreseen", job.text)[1])


def a_full_card_is_told_of():
    job = Job(programs, folder, "full", options=STEPS, environment={"CARD_BYTES": 480 * MIB})
    require(job.code == 78, f"ended with {job.code} instead of 78:\n{job.text}")
    job = Job(programs, folder, "fuller", options=STEPS, environment={"CARD_BYTES": 430 * MIB})
    require(job.code == 78 and "end the other programs" in job.text, f"ended with {job.code}:\n{job.text}")


def a_card_takes_one_rank():
    job = Job(programs, folder, "crowded", ranks=2, options=STEPS, environment={"CARDS": 1})
    require(job.code == 69 and "share one card" in job.text, f"ended with {job.code}:\n{job.text}")


def a_taken_card_is_told_of():
    job = Job(programs, folder, "taken", options=STEPS, environment={"COMPUTE_MODE": "taken"})
    require(job.code == 69 and "compute mode" in job.text and "nvidia-smi -c 0" in job.text,
            f"ended with {job.code} instead of 69:\n{job.text}")


def an_old_driver_is_told_of():
    job = Job(programs, folder, "old", options=STEPS, environment={"DRIVER": 12040})
    require(job.code == 69 and "580" in job.text, f"ended with {job.code} instead of 69:\n{job.text}")


def another_program_on_the_card_leaves_less():
    ledger = f"test-{os.getpid()}"
    holder = hold(ledger, 30 * GIB)
    try:
        shared = Job(programs, folder, "shared", options=STEPS, environment={"LEDGER": ledger}).succeed()
    finally:
        holder.kill()
        holder.wait()
    alone = Job(programs, folder, "again", options=STEPS, environment={"LEDGER": ledger}).succeed()
    less, more = (limit_of(job) for job in (shared, alone))
    require(29 < more - less < 32, f"limits of {less} and {more} GiB")


def every_kind_of_card_has_code():
    """PTX of compute_90 is for cards that came later; an older one than any code is refused with a sentence."""
    weights = {}
    for capability in (80, 86, 89, 120):
        job = Job(programs, folder, f"capability{capability}", options=STEPS, environment={"CAPABILITY": capability})
        weights[capability] = job.succeed().weights
    require(len(set(weights.values())) == 1, f"weights differ: {weights}")
    job = Job(programs, folder, "ancient", options=STEPS, environment={"CAPABILITY": 75})
    require(job.code == 69 and "is of compute capability 7.5, but" in job.text, f"ended with {job.code}:\n{job.text}")


def ranks_of(output):
    """Processes of the program that writes to the folder."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it has just ended
            continue
        if words[0].endswith("autoglm-train") and str(output) in words:
            yield int(process.name)


def the_death_of_a_rank_ends_the_job():
    command, settings = command_of(programs, folder, "dies", 2, ("--steps", 100000), {})
    job = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ranks = []
    try:
        require(any(line.startswith("step ") for line in job.stdout), "there was no step")
        ranks = sorted(ranks_of(folder / "dies"))
        require(len(ranks) == 2, f"{len(ranks)} ranks were found")
        os.kill(ranks[1], signal.SIGKILL)
        job.communicate(timeout=60)
        require(job.returncode != 0, "the job ended well without one of its ranks")
        require(not list(ranks_of(folder / "dies")), "a rank outlived its job")
    finally:
        for process in (job.pid, *ranks):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


run_tests([a_full_card_is_told_of, a_card_takes_one_rank, a_taken_card_is_told_of, an_old_driver_is_told_of,
           another_program_on_the_card_leaves_less, every_kind_of_card_has_code, the_death_of_a_rank_ends_the_job])
