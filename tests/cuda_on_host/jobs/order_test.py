"""Whether ThreadSanitizer sees on pretend cards that two streams are ordered, or are not: order_test.py RUN PROGRAM.

RUN is run.sh, PROGRAM order_program. What is not ordered must be seen though, as threads ran, one came long after the
other: locks of the pretend cards' own must order nothing.
"""

import os
import subprocess
import sys

from running import require, run_tests

run, libraries, program = sys.argv[1:]
ORDERED = ("wait_on_stream", "wait_on_host", "ask")
UNORDERED = ("wait_by_chance", "queue_more", "wait_too_late", "watch")
ENVIRONMENT = dict(os.environ, CUDA_ON_HOST_MISUSE="stop")


def races(case):
    ended = subprocess.run([run, libraries, program, case], env=ENVIRONMENT, timeout=60, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace")
    seen = "WARNING: ThreadSanitizer: data race" in ended.stdout
    require(seen or ended.returncode == 0, f"{case} ended with {ended.returncode}:\n{ended.stdout}")
    return seen


def order_is_seen():
    for case in ORDERED:
        require(not races(case), f"{case}: a race was seen")


def its_absence_is_seen():
    for case in UNORDERED:
        require(races(case), f"{case}: no race was seen")


run_tests([order_is_seen, its_absence_is_seen])
