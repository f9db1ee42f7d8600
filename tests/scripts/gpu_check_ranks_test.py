"""How gpu_check takes two ranks on one card: refused by the program, then as NCCL answers."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts" / "gpu_check"))
import gpu_check  # noqa: E402
import report  # noqa: E402

REFUSED = {"error": "2 ranks on host share one card", "code": 69}
GOOD = {"compared": 3, "strategies": 3, "different": [], "repeats": True, "learns": True}


class Machine:
    """Answers in order, and keeps what was asked."""

    cpu = False
    cards = ranks = 1

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def engine_run(self, request, seconds, ranks=1, environment=None):
        self.asked.append((request, ranks, environment))
        return self.answers.pop(0)


class TwoRanksOnOneCard(unittest.TestCase):
    def check(self, *answers):
        machine, part = Machine(*answers), report.Part("ranks")
        gpu_check.check_ranks(part, machine, 60)
        self.assertEqual(machine.answers, [])
        return machine, part

    def test_are_refused_and_then_compared_as_hosts_of_their_own(self):
        machine, part = self.check(REFUSED, GOOD)
        self.assertNotIn(part.status, (report.FAILED, report.IMPOSSIBLE))
        (first, *_), (second, ranks, environment) = machine.asked
        self.assertNotIn("hosts", first)
        self.assertEqual((second["hosts"], ranks), ("distinct", 2))
        self.assertEqual(len(environment["CUDA_VISIBLE_DEVICES"].split(",")), 1)

    def test_must_be_refused(self):
        for answer in (GOOD, {"error": "internal", "code": 70}):
            self.assertEqual(self.check(answer)[1].status, report.FAILED)

    def test_are_impossible_where_nccl_says_so(self):
        for code in (69, 70, 76, -1):
            self.assertEqual(self.check(REFUSED, {"error": "no", "code": code})[1].status, report.IMPOSSIBLE)

    def test_fail_where_the_program_does(self):
        for answer in ({"error": "no memory", "code": 78}, dict(GOOD, repeats=False)):
            self.assertEqual(self.check(REFUSED, answer)[1].status, report.FAILED)

    def test_of_several_cards_one_more_is_refused_and_all_are_compared(self):
        for answers, status in (((REFUSED, GOOD), report.PASSED), ((GOOD,), report.FAILED),
                                ((REFUSED, dict(GOOD, repeats=False)), report.FAILED),
                                ((REFUSED, {"error": "no", "code": 76}), report.FAILED),
                                ((REFUSED, {"error": "no", "code": -1}), report.UNFINISHED)):
            machine, part = Machine(*answers), report.Part("ranks")
            machine.cards = machine.ranks = 4
            gpu_check.check_ranks(part, machine, 60)
            self.assertEqual(part.status, status, part.lines)
            self.assertEqual([ranks for _, ranks, _ in machine.asked], [5, 4][:len(answers)])


if __name__ == "__main__":
    unittest.main()
