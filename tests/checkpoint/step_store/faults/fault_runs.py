"""Runs step_store_program with calls that go wrong, and checks what is left."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

KEEP = 2
# Checkpoint 2 is replaced, which makes 3 one of a future that did not come; the newest one is replaced; 3 is new again.
STEPS = [1, 2, 3, 2, 2, 3]
# A file system that cannot exchange two names, as NFS; errno 22 is EINVAL.
NO_EXCHANGE = "renameat2=22"
# Those that change or keep something: between two others a kill leaves what the first left.
CHANGING = {
    "create", "mkdir", "write", "pwrite", "fallocate", "ftruncate", "fsync", "fdatasync", "rename", "renameat2",
    "unlink", "rmdir", "close",
}
# What belongs to others, and has names that come near to a checkpoint's.
FOREIGN = {
    "checkpoint-0/trainer_state.json": b"{}",
    "checkpoint-2.tmp-fedcba9876543210fedcba9876543210/states-00000-of-00001.safetensors": b"another run's",
    "checkpoint-1.old-fedcba9876543210fedcba9876543210/manifest.json": b"another run's",
    "notes.txt": b"mine",
    "manifest.json": b"mine",
}


class Call:
    """A line of the journal."""

    def __init__(self, line):
        rank, number, self.name, error, *self.details = line.split("\t")
        self.rank, self.number, self.error = int(rank), int(number), int(error)


class Runs:
    """Runs in a folder of their own, in memory where possible: a kill does not lose what a disk had not yet."""

    def __init__(self, program, shim):
        self.program, self.shim = program, shim
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="step-store-faults-", dir=memory))
        self.waiting = []
        self.number = 0

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_root(self, foreign=True):
        """A folder for a run; checkpoints go to runs/one in it."""
        self.number += 1
        root = self.folder / str(self.number)
        (root / "runs").mkdir(parents=True)
        if foreign:
            plant(root / "runs" / "one")
        return root

    def environment(self, root, at="", refuse="", journal=""):
        settings = {"LD_PRELOAD": self.shim, "FAULTS_ROOT": str(root), "FAULTS_AT": at, "FAULTS_REFUSE": refuse}
        return {**os.environ, **settings, "FAULTS_JOURNAL": str(journal), "FAULTS_RANK": "0"}

    def command(self, root, ranks, steps=None, keep=KEEP, mib=0):
        steps = STEPS if steps is None else steps
        words = [self.program, "save", root / "runs" / "one", ranks, keep, mib, *steps]
        return [str(word) for word in words]

    def save(self, root, ranks, steps=None, **settings):
        """The exit code, and what the program said."""
        environment = self.environment(root, **settings)
        done = subprocess.run(self.command(root, ranks, steps), env=environment, capture_output=True, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def calls(self, ranks, steps=None, refuse=""):
        """What a run without a fault calls."""
        root, journal = self.new_root(), self.folder / "journal"
        code, said = self.save(root, ranks, steps, refuse=refuse, journal=journal)
        assert code == 0 and "failed" not in said, said
        calls = [Call(line) for line in journal.read_text().splitlines()]
        journal.unlink()
        shutil.rmtree(root)
        return calls

    def check_later(self, root, step, what, foreign=True):
        """`step` is the newest that was promised to be there, or -1."""
        self.waiting.append((root, step, what, foreign))

    def check(self):
        """What is wrong in the runs that wait: (what happened, what is wrong)."""
        runs = {str(root / "runs" / "one"): (root, step, what, foreign) for root, step, what, foreign in self.waiting}
        self.waiting = []
        lines = "".join(f"{directory} {KEEP} {run[1]}\n" for directory, run in runs.items())
        done = subprocess.run([self.program, "check"], input=lines, capture_output=True, text=True, timeout=300,
                              check=False)
        assert done.returncode in (0, 1), done.stdout + done.stderr
        wrong = []
        for line in done.stdout.splitlines():
            directory, sentence = line.split("\t")
            wrong.append((runs[directory][2], sentence))
        for directory, (root, _, what, foreign) in runs.items():
            if foreign and not is_untouched(pathlib.Path(directory)):
                wrong.append((what, "what belongs to others was touched"))
            shutil.rmtree(root)
        return wrong


def committed(said):
    """The newest step of which the program said that it is there."""
    steps = [int(line.split()[1]) for line in said.splitlines() if line.startswith("committed")]
    return steps[-1] if steps else -1


def plant(directory):
    for name, contents in FOREIGN.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(contents)


def is_untouched(directory):
    return all((directory / name).is_file() and (directory / name).read_bytes() == contents
               for name, contents in FOREIGN.items())


class FaultTest(unittest.TestCase):
    options = None

    def setUp(self):
        self.runs = Runs(self.options.program, self.options.shim)
        self.addCleanup(self.runs.close)
        self.cases = 0

    def check_all(self):
        """Of all runs that wait."""
        self.cases += len(self.runs.waiting)
        wrong = self.runs.check()
        kinds = {}
        for what, sentence in wrong:
            # Without paths and numbers, so that those of a kind are shown once.
            kinds.setdefault(re.sub(r"\S*/|[0-9a-f]{16,}|[0-9]+", "", sentence), (what, sentence))
        shown = "".join(f"\n  {what}: {sentence}" for what, sentence in list(kinds.values())[:8])
        if wrong:
            self.fail(f"{len(wrong)} of {self.cases} went wrong, in {len(kinds)} ways:{shown}")


def main(documentation):
    parser = argparse.ArgumentParser(description=documentation)
    parser.add_argument("program", help="step_store_program")
    parser.add_argument("shim", help="libfaults_shim.so")
    parser.add_argument("--all", action="store_true", help="all worlds, and everything that takes long")
    parser.add_argument("--random", type=int, default=0, help="how many random cases, where there are such")
    parser.add_argument("--seed", type=int, default=1)
    FaultTest.options, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
