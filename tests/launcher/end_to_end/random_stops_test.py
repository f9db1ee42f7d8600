"""A training that is stopped again and again, in every way and at random moments, ends as one that never was.

Arguments besides those of end_to_end.py: --shim libfaults_shim.so, --all for what takes long, --seed N, which the test
says of itself otherwise.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import end_to_end
import stops
from end_to_end import read_run
from resume_test import without_times
from running import RunningTest

INTERVAL = 6
# Epochs of several steps, steps of several micro-batches on each rank, validation.
TRAINING = ("--global-batch", 5, "--micro-batch", 1, "--validation", 0.1, "--learning-rate", 1e-3)
STEPS_OF_EPOCH = 6
ONE_RANK = (1, ("--precision", "fp32"))
TWO_RANKS = (2, ("--strategy", "zero3"))
MORE = {
    "everything offloaded": (2, ("--strategy", "zero3", "--weights", "host", "--offload-optimizer", 1)),
    "half of the optimizer offloaded": (1, ("--precision", "bf16", "--offload-optimizer", 0.5, "--recompute", "full")),
    "the best one kept": (1, ("--keep-best", "--export", "best")),
    "three ranks": (3, ("--strategy", "zero1", "--precision", "fp32")),
    "bf16 moments": (2, ("--strategy", "zero2", "--precision", "bf16", "--moment-dtype", "bf16", "--master", "split")),
}
KILLS = ("killed", "killed in a save", "torn", "a rank killed", "mpirun killed")
STOPS = ("asked", "a rank asked", "after a time", "a rank terminated", *KILLS)


class RandomStopsTest(RunningTest):
    settings = None

    def setUp(self):
        super().setUp()
        # A kill loses nothing that only a disk has not got yet: a folder in memory is as good, and its times are even.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        folder = pathlib.Path(tempfile.mkdtemp(prefix="autoglm-stops-", dir=memory))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.base = folder

    def make_folder(self, name):
        """Of one training that is stopped and its reference."""
        self.output = self.base / name / "output"
        self.output.parent.mkdir()

    def train_without_stops(self, ranks, options):
        """A run without interruption, and the states after every step of it that was saved."""
        output = self.output.with_name("reference")
        self.start(self.good, output, *options, "--save-every", 1, "--keep", 1000, ranks=ranks, code=0,
                   env={**os.environ, "AUTOGLM_FAULT_SAVES_ALONE": "1"})
        digests = {step: stops.digest_of(path) for step, path in stops.checkpoints_in(output)}
        self.assertGreater(len(digests), 10)
        return output, digests

    def begin_training(self, ranks, options, kind):
        """A job, and what it has said so far and is yet to say goes to a file."""
        # Where MPI leaves what ranks that are killed do not remove.
        environment = {**os.environ, "OMPI_MCA_btl_vader_backing_directory": str(self.base),
                       "OMPI_MCA_orte_tmpdir_base": str(self.base)}
        if kind == "after a time":
            options = (*options, "--stop-after", f"{self.chosen.uniform(0.1, 0.7):.2f}s")
        if kind == "torn":
            at = f"{self.chosen.randrange(ranks)}:{self.chosen.randint(3, 25)}:tear"
            environment |= {"LD_PRELOAD": self.settings.shim, "FAULTS_ROOT": str(self.checkpoints), "FAULTS_AT": at}
        command = self.on_ranks(ranks, self.command(self.good, self.output, *options))
        self.said = self.output.with_name("said")
        with open(self.said, "w", encoding="utf-8") as file:
            job = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stderr=file,
                                   env=environment, start_new_session=True)
        self.addCleanup(stops.kill_all, job)
        return job

    def wait_for_steps(self, job, steps):
        end = time.monotonic() + end_to_end.RUN_SECONDS
        while job.poll() is None and stops.steps_done(self.output) < steps:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.003)

    def stop(self, job, kind, wait):
        """Stops it in this way, `wait` steps after those that were done."""
        if kind not in ("after a time", "torn"):
            self.wait_for_steps(job, self.done + wait)
            time.sleep(self.chosen.uniform(0, 0.02))
        if kind == "killed in a save":
            begun = stops.saves_begun(self.checkpoints)
            while job.poll() is None and stops.saves_begun(self.checkpoints) <= begun:
                time.sleep(0.0005)
            time.sleep(self.chosen.uniform(0, 0.008))
        rank = self.chosen.choice(stops.ranks_of(job) or [job.pid])
        if kind in ("killed", "killed in a save"):
            stops.kill_all(job)
        elif kind in ("asked", "a rank asked"):
            stops.send(job.pid if kind == "asked" else rank, signal.SIGUSR1)
        elif kind == "a rank terminated":
            stops.send(rank, signal.SIGTERM)
        elif kind in ("a rank killed", "mpirun killed"):
            stops.send(rank if kind == "a rank killed" else job.pid, signal.SIGKILL)
        code = job.wait(timeout=end_to_end.RUN_SECONDS)
        stops.wait_until_gone(job, end_to_end.RUN_SECONDS)
        return code

    def check_code(self, ranks, kind, code):
        """The exit code is 75 where a checkpoint was waited for."""
        if code == 0:
            return
        if kind in ("asked", "a rank asked", "after a time") or (kind == "a rank terminated" and ranks == 1):
            self.assertEqual(code, stops.STOPPED, self.said.read_text())
        else:
            self.assertNotEqual(code, stops.STOPPED, self.said.read_text())

    def check_resumed(self, job, before):
        """After the stop before: it goes on from the newest checkpoint, and not much is computed again."""
        if self.done == 0:
            return
        text = ""
        while job.poll() is None and "plan: " not in text:
            text = self.said.read_text()
            time.sleep(0.003)
        text = self.said.read_text()
        if "plan: " not in text:
            return  # it was torn before, or had ended
        newest = max((step for step, _ in before), default=0)
        self.assertNotIn("cannot be used", text)
        self.assertIn(f", after step {newest}\n" if newest else "plan: ", text)
        again = self.done - newest
        if self.stopped_by[1] == stops.STOPPED:
            self.assertEqual(again, 0, self.stopped_by)
        # A save takes a while, too.
        self.assertLessEqual(again, 2 * INTERVAL, self.stopped_by)
        self.again.append(again)

    def compare_checkpoints(self):
        for step, path in stops.checkpoints_in(self.checkpoints):
            if step in self.digests:
                self.assertEqual(stops.digest_of(path), self.digests[step], f"states after step {step}")
                self.compared.add(step)

    def check_same(self, reference):
        self.assertEqual((self.output / "model.safetensors").read_bytes(),
                         (reference / "model.safetensors").read_bytes())
        mine, theirs = ([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
                        for folder in (self.output, reference))
        self.assertEqual(*(without_times([line for line in lines if "event" not in line]) for lines in (mine, theirs)))
        self.assertTrue(read_run(self.output)["finished"])
        names = {*os.listdir(self.output), *os.listdir(self.checkpoints)}
        self.assertFalse([name for name in names if ".tmp-" in name or ".old-" in name or ".seen" in name])
        self.assertLessEqual(len(list(stops.checkpoints_in(self.checkpoints))), 3)  # two, and the best one

    def stop_again_and_again(self, what, kinds, ranks, options, steps_of_each=8):
        """Stops a training in these ways, one after the other; one that ends before is begun anew."""
        self.chosen = random.Random(f"{self.settings.seed} {what}")
        epochs = -(-len(kinds) * steps_of_each // STEPS_OF_EPOCH) + 2
        options = (*TRAINING, *options, "--epochs", epochs)
        self.total = epochs * STEPS_OF_EPOCH
        self.reference, self.digests = self.train_without_stops(ranks, options)
        options += ("--save-every", INTERVAL)
        self.checkpoints = self.output
        if "torn" in kinds:
            self.checkpoints = self.output.with_name("checkpoints")
            options += ("--checkpoint-dir", self.checkpoints)
        self.done, self.stopped_by, self.again, self.compared = 0, "", [], set()
        stopped = trainings = in_saves = 0
        while stopped < len(kinds):
            kind = kinds[stopped]
            code = self.go_on(ranks, options, kind, len(kinds) - stopped)
            if code == 0:
                self.check_end()
                trainings += 1
                self.assertLess(trainings, 3 + stopped)
                continue
            self.check_code(ranks, kind, code)
            stopped += 1
            in_saves += bool(stops.saves_begun(self.checkpoints))
            self.done, self.stopped_by = stops.steps_done(self.output), (kind, code)
            self.compare_checkpoints()
        self.assertEqual(self.go_on(ranks, options, "", 0), 0, self.said.read_text())
        self.check_end()
        self.assertTrue(self.compared)
        print(f"{what}: {stopped} stops of {trainings + 1} trainings of {self.total} steps, {in_saves} in a save; "
              f"computed again: {self.again}; states compared after {len(self.compared)} steps", flush=True)
        return in_saves

    def go_on(self, ranks, options, kind, stops_left):
        """Until it ends, or is stopped in this way; the exit code."""
        before = list(stops.checkpoints_in(self.checkpoints))
        job = self.begin_training(ranks, options, kind)
        self.check_resumed(job, before)
        if not kind:
            return job.wait(timeout=2 * end_to_end.RUN_SECONDS)
        most = min(2 * INTERVAL, 2 * (self.total - self.done) // (stops_left + 1))
        return self.stop(job, kind, self.chosen.randint(1, max(1, most)))

    def check_end(self):
        self.compare_checkpoints()
        self.check_same(self.reference)
        shutil.rmtree(self.output)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        self.done, self.stopped_by = 0, ""

    def kinds(self, of, count, ranks, *certain):
        chosen = random.Random(f"{self.settings.seed} {ranks} {of}")
        possible = [kind for kind in of if (ranks > 1 or kind not in ("mpirun killed", "a rank asked"))
                    and (self.settings.shim or kind != "torn")]
        result = [kind for kind in certain if kind in possible]
        # Each once before one comes twice.
        while len(result) < count:
            result += chosen.sample(possible, min(len(possible), count - len(result)))
        chosen.shuffle(result)
        return result

    def test_stops(self):
        for ranks, options in (ONE_RANK, TWO_RANKS):
            with self.subTest(ranks=ranks):
                self.make_folder(f"stops-{ranks}")
                kinds = self.kinds(STOPS, 50 if self.settings.all else 5, ranks)
                self.stop_again_and_again(f"stops of {ranks}", kinds, ranks, options)

    def test_kills(self):
        """Twenty, or a hundred on each number of ranks."""
        in_saves = 0
        for (ranks, options), count in ((ONE_RANK, 12), (TWO_RANKS, 8)):
            self.make_folder(f"kills-{ranks}")
            count = 100 if self.settings.all else count
            kinds = self.kinds(KILLS, count, ranks, "killed in a save", "killed in a save")
            in_saves += self.stop_again_and_again(f"kills on {ranks}", kinds, ranks, options, steps_of_each=4)
        self.assertGreater(in_saves, 0)

    def test_other_strategies(self):
        if not self.settings.all:
            self.skipTest("takes long")
        for what, (ranks, options) in MORE.items():
            with self.subTest(what):
                self.make_folder(what.replace(" ", "-"))
                self.stop_again_and_again(what, self.kinds(STOPS, 50, ranks), ranks, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="fifty stops instead of five, of more strategies")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--shim", default="", help="libfaults_shim.so; without it no write is torn")
    RandomStopsTest.settings, rest = parser.parse_known_args()
    print(f"--seed {RandomStopsTest.settings.seed}", flush=True)
    sys.argv = [sys.argv[0], *rest]
    end_to_end.main()


if __name__ == "__main__":
    main()
