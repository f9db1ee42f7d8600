"""Ranks that die while nothing but the other ranks notices: these end soon, with one sentence, on cards and on the CPU.

peers_test.py PROGRAMS
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

from running import command_of, prepare_folder, require, run_tests

programs = pathlib.Path(sys.argv[1])
folder = prepare_folder()
PEER_LOST = 76
BOUND = 30  # seconds, of a job whose rank has died

# Runs a rank, and writes how it ended, whatever mpirun makes of that.
NOTE = 'number=$OMPI_COMM_WORLD_RANK; echo $$ >"$0/pid.$number"; "$@"; echo $? >"$0/code.$number"'


class Orphans:
    """A job of several ranks in its first steps, whose mpirun is held still or does not care for dead ranks."""

    def __init__(self, name, ranks, options=(), mpirun_options=(), device="cuda"):
        self.output, self.ranks = folder / name, ranks
        self.notes = folder / (name + ".notes")
        self.notes.mkdir()
        command, environment = command_of(programs, folder, name, ranks, ("--steps", 2000, "--device", device, *options),
                                          {"DEAD_PEERS": "unseen"})
        place = command.index(str(programs / "autoglm-train"))
        command[place:place] = [*mpirun_options, "sh", "-c", NOTE, str(self.notes)]
        self.said = folder / (name + ".said")
        with self.said.open("w") as said:
            self.mpirun = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said,
                                           stderr=subprocess.STDOUT)
        self.wait_for(lambda: "\nstep " in self.text or self.mpirun.poll() is not None, 120)
        require("\nstep " in self.text and self.mpirun.poll() is None, f"{name} made no step, or ended: {self.text}")

    @property
    def text(self):
        return self.said.read_text(errors="replace")

    def wait_for(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        return condition()

    def process_of(self, rank):
        """The program's, below the shell that notes how it ends."""
        shell = int((self.notes / f"pid.{rank}").read_text())
        children = pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        require(len(children) == 1, f"rank {rank} has the processes {children}")
        return int(children[0])

    def code_of(self, rank):
        with contextlib.suppress(OSError, ValueError):
            return int((self.notes / f"code.{rank}").read_text())

    def kill(self, rank, hold=True):
        """Seconds until all others have ended."""
        victim = self.process_of(rank)
        if hold:
            os.kill(self.mpirun.pid, signal.SIGSTOP)
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        others = [other for other in range(self.ranks) if other != rank]
        require(self.wait_for(lambda: all(self.code_of(other) is not None for other in others), BOUND),
                f"ranks go on after {BOUND} s without rank {rank}: {self.text}")
        return time.monotonic() - began

    def end(self):
        """Lets mpirun go, and gives what all have said."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.mpirun.pid, signal.SIGCONT)
        try:
            self.mpirun.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.mpirun.kill()
            self.mpirun.wait()
        return self.text

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for rank in range(self.ranks):
            with contextlib.suppress(Exception):
                os.kill(self.process_of(rank), signal.SIGKILL)
        self.end()


def check_orphans(job, rank, seconds, codes):
    text = job.end()
    named = re.findall(r"autoglm-train: (.*)", text)
    require(len(named) == 1 and re.match(rf"rank {rank} on \S+ has ended before its time", named[0]),
            f"{job.output.name}: said {named}:\n{text}")
    for other in range(job.ranks):
        require(other == rank or job.code_of(other) in codes, f"rank {other} ended with {job.code_of(other)}: {text}")
    if rank != 0:
        record = json.loads((job.output / "run.json").read_text())
        require(not record["finished"] and f"rank {rank} on " in json.dumps(record), f"run.json: {record}")
    print(f"{job.output.name}: all had ended {seconds:.1f} s after rank {rank}", flush=True)


def on_cards():
    for rank, ranks, stage in ((1, 2, "zero2"), (0, 2, "zero3")):
        with Orphans(f"cards{rank}", ranks, ("--strategy", stage)) as job:
            check_orphans(job, rank, job.kill(rank), (PEER_LOST,))


def on_the_cpu():
    for rank, ranks in ((1, 3), (0, 2)):
        with Orphans(f"cpu{rank}", ranks, device="cpu") as job:
            check_orphans(job, rank, job.kill(rank), (PEER_LOST,))


def with_an_mpirun_that_goes_on():
    with Orphans("recovering", 2, mpirun_options=("--enable-recovery",)) as job:
        check_orphans(job, 1, job.kill(1, hold=False), (PEER_LOST,))


run_tests([on_cards, on_the_cpu, with_an_mpirun_that_goes_on])
