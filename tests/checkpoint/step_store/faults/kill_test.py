"""A save that is killed at any call leaves the old checkpoint or the new one, whole."""

import os
import random
import signal
import subprocess
import time

import fault_runs
from fault_runs import CHANGING, NO_EXCHANGE, FaultTest, committed


class KillTest(FaultTest):
    def kill_at_every_call(self, ranks, refuse=""):
        for call in self.runs.calls(ranks, refuse=refuse):
            if call.name not in CHANGING or call.name == refuse.partition("=")[0]:
                continue
            for action in ["kill", "tear"] if call.name in ("write", "pwrite") else ["kill"]:
                root = self.runs.new_root()
                at = f"{call.rank}:{call.number}:{action}"
                code, said = self.runs.save(root, ranks, at=at, refuse=refuse)
                self.assertEqual(code, -signal.SIGKILL if call.rank == 0 else 76, f"{at} {call.name}: {said}")
                self.runs.check_later(root, committed(said), f"{ranks} ranks, {at} {call.name}")
        self.check_all()
        print(f"{self.cases} kills", flush=True)

    def test_one_rank(self):
        self.kill_at_every_call(1)

    def test_two_ranks(self):
        self.kill_at_every_call(2)

    def test_where_names_cannot_be_exchanged(self):
        self.kill_at_every_call(1, NO_EXCHANGE)

    def test_more_ranks(self):
        if not self.options.all:
            self.skipTest("takes long")
        for ranks in (3, 4):
            self.kill_at_every_call(ranks)
        for ranks in (2, 3, 4):
            self.kill_at_every_call(ranks, NO_EXCHANGE)

    def test_killed_again_while_it_cleans_up(self):
        """A second job meets what the first left, and is killed, too."""
        chosen = random.Random(self.options.seed)
        calls = [call for call in self.runs.calls(1) if call.name in CHANGING]
        for _ in range(max(60, self.options.random)):
            root, first, second = self.runs.new_root(), chosen.choice(calls), chosen.randint(1, 40)
            refuse = chosen.choice(["", NO_EXCHANGE])
            said = self.runs.save(root, 1, at=f"0:{first.number}:kill", refuse=refuse)[1]
            # The step that the first job was at, so that it may be replaced.
            step = max(committed(said), 1)
            said += self.runs.save(root, 1, [step, step + 1], at=f"0:{second}:kill", refuse=refuse)[1]
            self.runs.check_later(root, committed(said), f"{first.number} {first.name}, then {second}, {refuse}")
        self.check_all()

    def test_random_moments(self):
        chosen = random.Random(self.options.seed)
        for number in range(self.options.random or 40):
            root, ranks = self.runs.new_root(), chosen.randint(1, 4)
            command = self.runs.command(root, ranks, [*range(1, 2000)])
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                  start_new_session=True) as job:
                time.sleep(chosen.uniform(0.002, 0.05))
                os.killpg(job.pid, signal.SIGKILL)
                said = job.stdout.read()
            whole = said[:said.rfind("\n") + 1]
            self.runs.check_later(root, committed(whole), f"case {number} of {ranks} ranks")
            if number % 100 == 99:
                self.check_all()
        self.check_all()
        print(f"{self.cases} kills", flush=True)


if __name__ == "__main__":
    fault_runs.main(__doc__)
