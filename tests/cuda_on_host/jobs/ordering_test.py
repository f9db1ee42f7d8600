"""Whether kernels, copies and products that touch the same memory are ordered, as ThreadSanitizer sees it.

ordering_test.py PROGRAMS LIBRARIES, which are those of the sanitizer
"""

import pathlib
import sys

from running import Job, complaints, prepare_folder, require, run_tests

programs, libraries = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
folder = prepare_folder()
OFFLOADED = ("--strategy", "zero3", "--weights", "host", "--offload-optimizer", 1, "--recompute", "full", "--steps", 1,
             "--global-batch", 1)


def train(name, **settings):
    return Job(programs, folder, name, options=OFFLOADED, environment=dict(settings, LIBRARIES=libraries), seconds=200)


def all_work_is_ordered():
    train("ordered").succeed()


def missing_waits_are_found():
    job = train("broken", LEAVE_OUT_WAIT="all")
    require(job.code != 0 and complaints(job.text), f"nothing was noticed:\n{job.text}")


run_tests([all_work_is_ordered, missing_waits_are_found])
