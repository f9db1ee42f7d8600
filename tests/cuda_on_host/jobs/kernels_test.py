"""The project's kernels as real blocks of threads, in several orders, beside one thread a block.

kernels_test.py PROGRAMS
"""

import pathlib
import sys

from running import Job, prepare_folder, require, run_tests

programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
ORDERS = (0, 1, 4711)


def train(name, **environment):
    job = Job(programs, folder, name, options=("--steps", 1, "--global-batch", 1), environment=environment)
    return job.succeed()


def the_order_of_threads_changes_nothing():
    jobs = [train(f"order{order}", BLOCKS="fibers", THREAD_ORDER=order) for order in ORDERS]
    weights = {job.weights for job in jobs}
    require(len(weights) == 1, "weights depend on the order of threads")
    one_thread = train("serial")
    require(abs(jobs[0].losses[0] - one_thread.losses[0]) < 1e-3, f"losses {jobs[0].losses}, {one_thread.losses}")


run_tests([the_order_of_threads_changes_nothing])
