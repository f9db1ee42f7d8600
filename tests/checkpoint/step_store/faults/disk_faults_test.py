"""A disk that fails or is full lets a save fail: earlier checkpoints stay, and a later save is made."""

import errno
import os
import shutil
import subprocess

import fault_runs
from fault_runs import NO_EXCHANGE, STEPS, FaultTest, committed

NEEDS_ROOM = {"create", "mkdir", "write", "pwrite", "fallocate", "fsync", "close", "rename", "renameat2"}
MAY_BE_INTERRUPTED = {"create", "open", "write", "pwrite", "pread", "fallocate", "ftruncate", "fsync", "close"}
REMOVES = {"unlink", "rmdir"}


def faults_of(call, thorough):
    """What may go wrong in it, and whether the save must be made all the same."""
    yield str(errno.EIO), False
    if call.name in NEEDS_ROOM:
        yield str(errno.ENOSPC), False
        if thorough or call.number % 3 == 0:  # for it is met by the same code
            yield str(errno.EDQUOT), False
    if call.name in MAY_BE_INTERRUPTED:
        yield str(errno.EINTR), True
    if call.name in ("write", "pwrite", "pread"):
        yield "short", True
    if call.name == "pwrite":
        yield "flip", False


class DiskFaultsTest(FaultTest):
    def fail_every_call(self, ranks, refuse="", lasting=False):
        steps = STEPS if self.options.all else STEPS[:4]
        calls = self.runs.calls(ranks, steps, refuse)
        promised = sum(call.name == "say" and call.details[0].startswith("committed") for call in calls)
        for call in calls:
            if call.number == 0 or call.name == refuse.partition("=")[0]:
                continue
            for action, is_harmless in faults_of(call, self.options.all):
                if lasting and (is_harmless or action == "flip"):
                    continue
                if is_harmless and ranks > 1 and call.rank == 0 and not self.options.all:
                    continue  # for one rank does the same
                self.fail_one(ranks, steps, call, f"+:{action}" if lasting else f":{action}", refuse,
                              promised if is_harmless else promised - 1)
        self.check_all()
        print(f"{self.cases} faults", flush=True)

    def fail_one(self, ranks, steps, call, action, refuse, promised):
        root = self.runs.new_root()
        at = f"{call.rank}:{call.number}{action}"
        what = f"{ranks} ranks {refuse}, {at} {call.name}"
        code, said = self.runs.save(root, ranks, steps, at=at, refuse=refuse)
        self.assertEqual(code, 0, f"{what}: {said}")
        lines = said.splitlines()
        if not action.startswith("+"):
            if call.name not in REMOVES:
                self.assertFalse([line for line in lines if line.startswith("left")], f"{what}: {said}")
            if "not begun" not in said:
                self.assertGreaterEqual(sum(line.startswith("committed") for line in lines), promised,
                                        f"{what}: {said}")
        self.runs.check_later(root, committed(said), what)
        if len(self.runs.waiting) >= 500:
            self.check_all()

    def test_one_rank(self):
        self.fail_every_call(1)

    def test_two_ranks(self):
        self.fail_every_call(2)

    def test_where_names_cannot_be_exchanged(self):
        self.fail_every_call(1, NO_EXCHANGE)

    def test_disk_stays_broken(self):
        self.fail_every_call(1, lasting=True)

    def test_more_ranks(self):
        if not self.options.all:
            self.skipTest("takes long")
        for ranks in (2, 3, 4):
            self.fail_every_call(ranks, NO_EXCHANGE)
            self.fail_every_call(ranks, lasting=True)
        for ranks in (3, 4):
            self.fail_every_call(ranks)

    def save_on_small_disk(self, refuse):
        """Checkpoints of 20 MiB on a disk of 64: the fourth has no room, and the disk is as it was; later there is."""
        root = self.runs.new_root(foreign=False)
        environment = self.runs.environment(root, refuse=refuse)
        many = self.runs.command(root, 2, [1, 2, 3, 4, 5], keep=9, mib=10)
        few = self.runs.command(root, 2, [6], keep=2, mib=10)
        remove = ["rm", "-r", str(root / "runs" / "one" / "checkpoint-1")]
        script = ('mount -t tmpfs -o size=64m none "$1" || exit 99; shift; "${@:2:$1}" && shift $(($1 + 1)) && '
                  '"${@:2:$1}" && shift $(($1 + 1)) && "${@:2:$1}" && ls "$FAULTS_ROOT/runs/one"')
        words = [word for command in (many, remove, few) for word in (str(len(command)), *command)]
        done = subprocess.run(["unshare", "--mount", "--map-root-user", "bash", "-c", script, "bash", str(root), *words],
                              env=environment, capture_output=True, text=True, timeout=100, check=False)
        return done.returncode, done.stdout + done.stderr

    def test_small_disk(self):
        if shutil.which("unshare") is None:
            self.skipTest("a disk of 64 MiB needs unshare")
        for refuse in ("", f"fallocate={errno.EOPNOTSUPP}"):
            code, said = self.save_on_small_disk(refuse)
            if code in (1, 99) and ("mount" in said or "unshare" in said):
                self.skipTest("a disk of 64 MiB cannot be mounted: " + said.splitlines()[-1])
            self.assertEqual(code, 0, said)
            lines = said.splitlines()
            starts = [" ".join(line.split()[:2]) for line in lines]
            for expected in ("committed 3", "failed 4:", "failed 5:", "committed 6"):
                self.assertIn(expected, starts, said)
            self.assertIn(os.strerror(errno.ENOSPC), said)
            self.assertFalse([line for line in lines if line.startswith(("broken", "left"))], said)
            self.assertEqual(lines[-3:], ["checkpoint-3", "checkpoint-6", "latest"], said)


if __name__ == "__main__":
    fault_runs.main(__doc__)
