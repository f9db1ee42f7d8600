"""What gpu_check says at its end, and when the parts on several cards pass."""

import json
import pathlib
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts" / "gpu_check"))
import cards  # noqa: E402
import report  # noqa: E402

LATE = {"error": report.UNFINISHED, "code": -1}


def training(**changes):
    step = dict(loss=5.0, exposed=0.1, seconds=1.0)
    return dict({"strategy": "zero2", "tokens_per_second": 1000.0, "tokens_per_step": 1000,
                 "model_flops_per_second": 1e12, "peak_flops": 1e13, "steps": [dict(step, seconds=3.0), step], "foreseen_step_seconds": 1.0,
                 "foreseen": {"device": {"peak": 1001}}, "measured": {"device": {"peak": 1000}}}, **changes)


def width(reach=200e9):
    return {"ranks": 4, "sizes": [dict(bytes=1 << 20, all_gather=reach, reduce_scatter=reach)],
            "foreseen": dict(all_gather=200e9, reduce_scatter=200e9)}


class Machine:
    """Four cards that answer in order."""

    TIMED_OUT, device, small, ranks = -1, "cuda", False, 4

    def __init__(self, *answers):
        self.answers = list(answers)

    def toy_limit(self, otherwise):
        return otherwise

    def engine_run(self, request, seconds, ranks=1, environment=None):
        return self.answers.pop(0)


def done(function, *answers):
    part = report.Part("part")
    function(part, Machine(*answers), 60)
    return part


class SeveralCards(unittest.TestCase):
    def test_speed_and_bytes_are_told_and_compared(self):
        part = done(cards.check_cards, training(), training(tokens_per_second=3000.0))
        self.assertEqual((part.status, part.differences), (report.PASSED, []), part.lines)
        said = "\n".join(part.lines)
        for words in ("10.0 % MFU", "2.5 % MFU", "10.0 % of a step waits",
                      "3.00 times as fast as one: 75 % of 4 times"):
            self.assertIn(words, said)

    def test_a_slow_step_differs_from_the_plan_and_passes(self):
        part = done(cards.check_cards, training(), training(foreseen_step_seconds=0.5))
        self.assertEqual((part.status, len(part.differences)), (report.PASSED, 1), part.lines)

    def test_bytes_that_were_not_foreseen_and_other_losses_fail(self):
        more = {"device": {"peak": 1002}}
        for answers in ((training(measured=more), training()), (training(), training(measured=more)),
                        (training(), training(steps=[dict(loss=5.1, exposed=0, seconds=1.0)])),
                        (training(), training(steps=[dict(loss=float("nan"), exposed=0, seconds=1.0)]))):
            self.assertEqual(done(cards.check_cards, *answers).status, report.FAILED)

    def test_what_did_not_end_in_time_is_told_so(self):
        self.assertEqual(done(cards.check_cards, training(), LATE).status, report.UNFINISHED)
        self.assertEqual(done(cards.check_width, LATE).status, report.UNFINISHED)
        self.assertEqual(done(cards.check_width, {"error": "no", "code": 76}).status, report.FAILED)

    def test_a_narrow_link_differs_from_the_plan(self):
        self.assertEqual(done(cards.check_width, width()).differences, [])
        part = done(cards.check_width, width(40e9))
        self.assertEqual((part.status, len(part.differences)), (report.PASSED, 2))


class Verdict(unittest.TestCase):
    def parts(self):
        passed, failed, late, skipped = (report.Part(name) for name in ("one", "two", "three", "four"))
        passed.differ("slower")
        failed.say("a figure")
        failed.fail("wrong bits")
        late.break_off("a run: " + report.UNFINISHED, True)
        skipped.stop(report.SKIPPED, "no transformers")
        return [passed, failed, late, skipped]

    def test_names_every_part_and_why_it_did_not_pass(self):
        lines = report.verdict(self.parts(), 7).splitlines()
        self.assertEqual(lines, ["verdict", "  passed: one", "  failed: two: wrong bits",
                                 "  not finished in its time: three: a run: not finished in its time",
                                 "  skipped: four: no transformers", "  differs from the plan: one: slower",
                                 "FAILED in 7 s"])

    def test_what_was_skipped_is_no_failure_but_what_was_cut_is(self):
        passed, failed, late, skipped = self.parts()
        self.assertTrue(report.is_good([passed, skipped]))
        for one in (failed, late):
            self.assertFalse(report.is_good([passed, one]))
        self.assertFalse(report.is_good([]))

    def test_a_failure_stays_one_when_time_is_up_later(self):
        part = self.parts()[1]
        part.break_off("late", True)
        self.assertEqual(part.status, report.FAILED)

    def test_a_part_that_raises_fails(self):
        part = report.timed(lambda part: part.figures["absent"], report.Part("broken"))
        self.assertEqual(part.status, report.FAILED)
        self.assertIn("KeyError", part.reason())

    def test_programs_are_ended_when_their_time_is_up_and_their_words_are_sent(self):
        with tempfile.TemporaryDirectory() as folder:
            report.Log.folder = pathlib.Path(folder)
            self.addCleanup(setattr, report.Log, "folder", None)
            ended = report.run(["sh", "-c", "echo begun; sleep 60"], 1)
            self.assertTrue(ended.timed_out)
            self.assertEqual(ended.last_lines(), report.UNFINISHED)
            self.assertFalse(report.write(self.parts(), {"memory": "1 GiB"}, folder, 7))
            with tarfile.open(report.pack(folder, folder)) as packed:
                names = packed.getnames()
                log = next(name for name in names if name.endswith("-sh.log"))
                self.assertIn("begun", packed.extractfile(log).read().decode())
                written = json.load(packed.extractfile("gpu_check/gpu_check.json"))
                self.assertIn("wrong bits", packed.extractfile("gpu_check/gpu_check.txt").read().decode())
        self.assertEqual(written["parts"]["three"]["status"], report.UNFINISHED)
        self.assertFalse(written["passed"])


if __name__ == "__main__":
    unittest.main()
