"""When the power goes during a save, the old checkpoint or the new one is on the disk, whole.

One run's calls are replayed on a disk that forgets (disk.py); before each call the power goes, in several ways.
"""

import errno
import random

import fault_runs
from disk import All, Disk, Names, Nothing, Some, contents_of, write_contents
from fault_runs import CHANGING, NO_EXCHANGE, Call, FaultTest

KEPT_PARTS = [(1, 0), (0, 1), (0.5, 0.5), (0.9, 0.5), (0.5, 0.9)]  # of names, of bytes


class PowerLossTest(FaultTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(self.options.seed)
        self.seen = set()

    def ways(self, rounds):
        yield from (Nothing(), All(), Names())
        for _ in range(rounds):
            for names, data in KEPT_PARTS:
                yield Some(self.random, names, data)

    def lose(self, disk, promised, what, rounds):
        """States that were met already are left out."""
        for way in self.ways(rounds):
            state = disk.after_power_loss(way)
            key = hash((promised, *sorted((name, data) for name, data in state.items() if data is not None),
                        *sorted(name for name, data in state.items() if data is None)))
            if key in self.seen:
                continue
            self.seen.add(key)
            root = self.runs.new_root(foreign=False)
            write_contents(root, state)
            self.runs.check_later(root, promised, f"{what}, {type(way).__name__}", foreign=False)
            if len(self.runs.waiting) >= 500:
                self.check_all()

    def replay(self, disk, journal, what, rounds, promised=-1, before=CHANGING):
        for line in journal.read_text().splitlines():
            call = Call(line)
            if call.name in before:
                self.lose(disk, promised, f"{what}, before {call.rank}:{call.number} {call.name}", rounds)
            disk.apply(call)
            if call.name == "say" and call.details[0].startswith("committed"):
                promised = int(call.details[0].split()[1])
        self.lose(disk, promised, f"{what}, at the end", rounds)
        return promised

    def run_once(self, ranks, rounds, refuse=""):
        """A run that ends as it should, and begins by making its folder."""
        root, journal = self.runs.new_root(foreign=False), self.runs.folder / "journal"
        disk = Disk(root)
        code, said = self.runs.save(root, ranks, journal=journal, refuse=refuse)
        self.assertEqual(code, 0, said)
        self.replay(disk, journal, f"{ranks} ranks {refuse}", rounds)
        self.assertEqual(disk.now(), contents_of(root), "the journal lacks calls")
        journal.unlink()

    def finish(self):
        self.check_all()
        print(f"{self.cases} states of the disk", flush=True)

    def test_one_rank(self):
        self.run_once(1, self.options.random or 3)
        self.finish()

    def test_two_ranks(self):
        self.run_once(2, self.options.random or 3)
        self.finish()

    def test_where_names_cannot_be_exchanged(self):
        self.run_once(1, self.options.random or 3, NO_EXCHANGE)
        self.finish()

    def test_more_ranks(self):
        if not self.options.all:
            self.skipTest("takes long")
        for ranks in (2, 3, 4):
            for refuse in ("", NO_EXCHANGE):
                self.run_once(ranks, self.options.random or 3, refuse)
        self.finish()

    def test_after_a_failed_sync(self):
        """What could not be synced is not promised, and is not what anything else relies on."""
        for call in self.runs.calls(1):
            if call.name != "fsync":
                continue
            root, journal = self.runs.new_root(), self.runs.folder / "journal"
            disk = Disk(root)
            self.runs.save(root, 1, journal=journal, at=f"0:{call.number}:{errno.EIO}")
            self.replay(disk, journal, f"after call {call.number} failed", 1, before={"rename", "renameat2", "rmdir"})
            journal.unlink()
        self.finish()

    def test_after_a_kill(self):
        """A job is killed, a second one cleans up and saves: the power goes meanwhile, or during the first."""
        calls = [call for call in self.runs.calls(1) if call.name in CHANGING]
        chosen = calls if self.options.all else [
            call for call in calls if call.name in ("rename", "renameat2")
            or calls[calls.index(call) - 1].name in ("rename", "renameat2")]
        for refuse in ("", NO_EXCHANGE) if self.options.all else ("",):
            for call in chosen:
                self.kill_and_lose(call, refuse)
        self.finish()

    def kill_and_lose(self, call, refuse):
        root, journal = self.runs.new_root(), self.runs.folder / "journal"
        disk = Disk(root)
        at = f"{call.rank}:{call.number}:kill"
        said = self.runs.save(root, 1, journal=journal, at=at, refuse=refuse)[1]
        promised = fault_runs.committed(said)
        for line in journal.read_text().splitlines():
            disk.apply(Call(line))
        journal.unlink()
        step = max(promised, 1)
        self.runs.save(root, 1, [step, step + 1], journal=journal, refuse=refuse)
        self.replay(disk, journal, f"after a kill at {at} {call.name} {refuse}", 1, promised)
        self.assertEqual(disk.now(), contents_of(root), "the journal lacks calls")
        journal.unlink()


if __name__ == "__main__":
    fault_runs.main(__doc__)
