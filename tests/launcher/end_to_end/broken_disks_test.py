"""A disk that fails or is full under the checkpoints alone: training goes on, and ends as if nothing had been.

Arguments besides those of end_to_end.py: --shim libfaults_shim.so, --all for every call instead of a sample, --seed N,
which the test says of itself otherwise.
"""

import argparse
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile

import end_to_end
import stops
from end_to_end import CANNOT_CREATE, IO_FAILED, read_metrics
from resume_test import without_times
from running import RunningTest

sys.path.insert(0, str(end_to_end.REPOSITORY / "tests" / "checkpoint" / "step_store" / "faults"))
from disk_faults_test import faults_of  # noqa: E402
from fault_runs import Call  # noqa: E402

STEPS = 10
# What else is waited for: for a failed save's next try, and for room where a stop meets a full disk.
AT_ONCE = {"AUTOGLM_FAULT_SAVE_RETRY": "0", "AUTOGLM_FAULT_DISK_PATIENCE": "1"}
STOPPED = 75
OPTIONS = {1: ("--precision", "fp32"), 2: ("--strategy", "zero2")}
ALL = 1000  # checkpoints to keep: all
NO_CHECKPOINT, STILL_THERE = "warning: no checkpoint of step ", "warning: an older checkpoint is still there: "
# What fails a save on whatever file; and on a rank that writes nothing else.
ALWAYS_FAILS = {"mkdir", "pread"}
FAILS_STATES = ALWAYS_FAILS | {"create", "pwrite", "fsync", "open"}
# What removes older checkpoints.
REMOVES = {"rename", "unlink", "rmdir", "fsync", "opendir", "open"}


def events_in(output, name):
    """The steps of what was told of checkpoints."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line.get("event") == name]


class BrokenDisksTest(RunningTest):
    settings = None

    def setUp(self):
        super().setUp()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="autoglm-disks-", dir=memory))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.output, self.checkpoints = self.base / "output", self.base / "checkpoints"
        self.chosen = random.Random(f"{self.settings.seed} {self.id()}")

    def options(self, ranks, keep, steps=STEPS):
        return (*OPTIONS[ranks], "--steps", steps, "--save-every", 1, "--keep", keep, "--checkpoint-dir",
                self.checkpoints)

    def faulty(self, at):
        """The environment in which a call goes wrong; every call is written to a journal."""
        self.journal = self.base / "journal"
        self.journal.unlink(missing_ok=True)
        return {**os.environ, "LD_PRELOAD": self.settings.shim, "FAULTS_ROOT": str(self.checkpoints), "FAULTS_AT": at,
                "FAULTS_JOURNAL": str(self.journal), **AT_ONCE}

    def train_anew(self, ranks, keep, at="", steps=STEPS):
        for folder in (self.output, self.checkpoints):
            shutil.rmtree(folder, ignore_errors=True)
        ended = self.start(self.good, self.output, *self.options(ranks, keep, steps), ranks=ranks, env=self.faulty(at))
        self.assertEqual(ended.code, 0, f"{at}: {ended}")
        return ended.stderr

    def calls(self):
        return [Call(line) for line in self.journal.read_text().splitlines()]

    def undisturbed(self, ranks, keep):
        """The calls of saves, each rank's."""
        self.train_anew(ranks, keep)
        found = []
        for rank in range(ranks):
            mine = [call for call in self.calls() if call.rank == rank and call.number > 0]
            first = next(call.number for call in mine if call.name == "create" and "states-" in call.details[-1])
            found += [call for call in mine if call.number >= first - 1]
        if keep == ALL:
            self.expected = shutil.copytree(self.output, self.base / "expected", dirs_exist_ok=True)
            self.digests = {step: stops.digest_of(path) for step, path in stops.checkpoints_in(self.checkpoints)}
        return found

    def check_result(self, at, said):
        """What was trained, and that what is there of checkpoints, and was told, is whole."""
        self.assertEqual((self.output / "model.safetensors").read_bytes(),
                         (self.expected / "model.safetensors").read_bytes(), at)
        mine, theirs = (without_times(read_metrics(folder)[0]) for folder in (self.output, self.expected))
        self.assertEqual(mine, theirs, at)
        self.assertEqual(said.count(NO_CHECKPOINT), len(events_in(self.output, "no_checkpoint")), said)
        there = dict(stops.checkpoints_in(self.checkpoints))
        for step, path in there.items():
            self.assertEqual(stops.digest_of(path), self.digests.get(step, stops.digest_of(path)), f"{at}: step {step}")
        return there

    def fail_one(self, ranks, keep, call, action):
        at = f"{call.rank}:{call.number}:{action}"
        said = self.train_anew(ranks, keep, at)
        there = self.check_result(at, said)
        told, failed = events_in(self.output, "checkpoint"), events_in(self.output, "no_checkpoint")
        self.assertLessEqual(set(told) if keep == ALL else {max(told)}, set(there), at)
        for step in failed:
            if step <= STEPS // 2:  # it is tried again with the next step
                self.assertGreater(max(told), step, f"{at}: {said}")
        # In this run the call of this number may have been another.
        hit = [one for one in self.calls() if one.rank == call.rank and one.number == call.number]
        if not hit:
            return
        self.reached += 1
        self.warned += NO_CHECKPOINT in said
        self.told += STILL_THERE in said
        # Folders that are there are met by the ranks that come later.
        if hit[0].error and hit[0].error != errno.EEXIST and action not in ("short", "flip", str(errno.EINTR)):
            fails = ALWAYS_FAILS if call.rank == 0 else FAILS_STATES
            if hit[0].name in fails:
                self.assertIn(NO_CHECKPOINT, said, f"{at} {hit[0].name}")
        if action in ("short", str(errno.EINTR)):
            self.assertNotIn(NO_CHECKPOINT, said, f"{at} {hit[0].name}")

    def some_of(self, calls):
        """Of each rank and name one; a write now and then of all."""
        if self.settings.all:
            return [call for call in calls if call.name != "pwrite" or call.number % 12 == 0]
        groups = {}
        several = any(call.rank > 0 for call in calls)
        for call in calls:
            if several and call.rank == 0 and call.name not in ("fsync", "pwrite", "rename"):
                continue  # a rank alone does the same
            groups.setdefault((call.rank, call.name), []).append(call)
        return [self.chosen.choice(group[:max(1, 2 * len(group) // 3)]) for group in groups.values()]

    def fail_some(self, ranks):
        self.reached = self.warned = self.told = faults = 0
        for keep in (ALL, 2) if ranks == 1 or self.settings.all else (ALL,):
            calls = self.undisturbed(ranks, keep)
            if keep == 2:
                calls = [call for call in calls if call.rank == 0 and call.name in REMOVES]
            for call in self.some_of(calls):
                actions = [action for action, _ in faults_of(call, True)]
                for action in actions if self.settings.all else [self.chosen.choice(actions)]:
                    self.fail_one(ranks, keep, call, action)
                    faults += 1
        print(f"{ranks} ranks: {faults} faults, {self.reached} met, {self.warned} saves failed, {self.told} removals",
              flush=True)
        self.assertGreater(2 * self.reached, faults)
        self.assertGreater(self.warned, 0)

    def test_calls_of_one_rank(self):
        self.fail_some(1)

    def test_calls_of_two_ranks(self):
        self.fail_some(2)

    def test_disk_stays_broken(self):
        for ranks in (1, 2):
            calls = [call for call in self.undisturbed(ranks, ALL) if call.name in ("create", "pwrite", "fsync")]
            for rank in range(ranks):
                mine = [call for call in calls if call.rank == rank]
                mine = mine[len(mine) // 3:2 * len(mine) // 3]
                for error in (errno.ENOSPC, errno.EIO, errno.EDQUOT)[:3 if self.settings.all else 2]:
                    for call in self.chosen.sample(mine, 10 if self.settings.all else 1):
                        at = f"{rank}:{call.number}+:{error}"
                        said = self.train_anew(ranks, 2, at)
                        self.check_result(at, said)
                        self.assertIn(NO_CHECKPOINT, said)
                        self.assertIn(os.strerror(error), said)

    def wait_for_event(self, process, name, count=1):
        self.wait_until(lambda: (self.output / "metrics.jsonl").exists() and
                        len(events_in(self.output, name)) >= count, process)

    def test_asked_to_stop_while_the_disk_is_full(self):
        """There is no checkpoint to go on from, which is said; the one before is as good as it was."""
        steps = 60
        self.train_anew(1, ALL, steps=steps)
        self.expected = shutil.move(self.output, self.base / "expected")
        shutil.rmtree(self.checkpoints)
        process = self.begin(self.good, self.output, *self.options(1, 2, steps),
                             environment=self.faulty(f"0:400+:{errno.ENOSPC}"))
        self.wait_for_event(process, "no_checkpoint")
        process.send_signal(signal.SIGUSR1)
        said = self.finish(process, IO_FAILED)
        self.assertIn("of which there is no checkpoint", said)
        self.assertIn(os.strerror(errno.ENOSPC), said)
        newest = max(step for step, _ in stops.checkpoints_in(self.checkpoints))
        ended = self.start(self.good, self.output, *self.options(1, 2, steps), code=0)
        self.assertIn(f"after step {newest}\n", ended.stderr)
        self.digests = {}
        self.check_result("", ended.stderr)

    def test_reads_that_fail_for_a_moment(self):
        """What cannot be read is not what was written wrongly: it is tried again, or the job ends and changes nothing."""
        steps = 400
        process = self.begin(self.good, self.output, *self.options(1, 2, steps))
        self.wait_for_event(process, "checkpoint", 2)
        process.send_signal(signal.SIGUSR1)
        self.finish(process, STOPPED)
        newest = max(step for step, _ in stops.checkpoints_in(self.checkpoints))

        def go_on(at):
            return self.start(self.good, self.output, *self.options(1, 2, steps), "--dry-run", env=self.faulty(at))

        self.assertIn(f"going on from {self.checkpoints}/checkpoint-{newest}", go_on("").stderr)
        reads = [call for call in self.calls() if call.name == "pread"]
        before, tried_again = sorted(end_to_end.tree(self.base)), 0
        for call in reads if self.settings.all else self.chosen.sample(reads, 5) + reads[-1:]:
            ended = go_on(f"0:{call.number}:{errno.EIO}")
            self.assertIn(ended.code, (0, CANNOT_CREATE), ended)  # where it only looks whose a folder is
            self.assertNotIn("cannot be used", ended.stderr)
            if ended.code == 0:
                self.assertIn(f"going on from {self.checkpoints}/checkpoint-{newest}", ended.stderr)
                tried_again += 1
        self.assertGreater(tried_again, 0)
        ended = go_on(f"0:{reads[0].number}+:{errno.EIO}")
        self.assertEqual(ended.code, IO_FAILED, ended)
        self.assertIn("nothing is wrong with the checkpoint as far as it can be read", ended.stderr)
        self.assertEqual(sorted(end_to_end.tree(self.base)), before)

    def remove_checkpoints(self):
        for _, path in stops.checkpoints_in(self.checkpoints):
            shutil.rmtree(path)

    def test_small_disk(self):
        """64 MiB that others fill and empty again."""
        self.checkpoints = self.mount("64m")
        for ranks in (1, 2):
            options = self.options(ranks, 40, 200)  # before the 41st nothing goes that makes room
            self.start(self.good, self.output, *options, ranks=ranks, code=0)
            self.expected = shutil.move(self.output, self.base / f"expected-{ranks}")
            self.remove_checkpoints()
            process = self.begin(self.good, self.output, *options, ranks=ranks, environment=AT_ONCE)
            self.wait_for_event(process, "checkpoint", 3)
            for rank in stops.ranks_of(process):
                stops.send(rank, signal.SIGSTOP)
            filler = self.fill(self.checkpoints)
            for rank in stops.ranks_of(process):
                stops.send(rank, signal.SIGCONT)
            self.wait_for_event(process, "no_checkpoint")
            self.assertGreaterEqual(len(list(stops.checkpoints_in(self.checkpoints))), 3)
            filler.unlink()
            self.wait_for_event(process, "checkpoint", len(events_in(self.output, "checkpoint")) + 1)
            said = self.finish(process)
            self.assertIn(os.strerror(errno.ENOSPC), said)
            self.digests = {}
            self.assertTrue(self.check_result("", said))
            print(f"{ranks} ranks: {said.count(NO_CHECKPOINT)} saves failed of "
                  f"{said.count(NO_CHECKPOINT) + len(events_in(self.output, 'checkpoint'))}", flush=True)
            shutil.rmtree(self.output)
            self.remove_checkpoints()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all calls")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--shim", required=True, help="libfaults_shim.so")
    BrokenDisksTest.settings, rest = parser.parse_known_args()
    print(f"--seed {BrokenDisksTest.settings.seed}", flush=True)
    sys.argv = [sys.argv[0], *rest]
    end_to_end.main()


if __name__ == "__main__":
    main()
