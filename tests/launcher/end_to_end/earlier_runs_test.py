"""What a job does about the runs that it finds: it goes on with its own, and neither uses, replaces nor removes another's."""

import json
import os
import shutil
import signal

import end_to_end
from end_to_end import CANNOT_CREATE, read_metrics, read_run
from running import RunningTest

USAGE, BAD_DATA, MISSING, STOPPED = 64, 65, 66, 75
TRAINING = {"--steps": 40, "--global-batch": 4, "--micro-batch": 2, "--learning-rate": 1e-3, "--save-every": 3, "--keep": 3}


def checkpoints(folder):
    return sorted((name for name in os.listdir(folder) if name.startswith("checkpoint-")),
                  key=lambda name: int(name.split("-")[1].split(".")[0]))


def training(options):
    """The options, with those of TRAINING that are not among them."""
    return [*options, *(part for pair in TRAINING.items() if pair[0] not in options for part in pair)]


def break_states(checkpoint):
    for path in checkpoint.glob("states-*"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


class EarlierRunsTest(RunningTest):
    def train(self, output, *options, code=0, **how):
        return self.start(self.good, output, *training(options), code=code, **how).stderr

    def stop(self, output, *options, steps=8, **how):
        """A run that is stopped after so many steps, with several checkpoints."""
        metrics = output / "metrics.jsonl"
        process = self.begin(self.good, output, *training(options),
                             until=lambda: metrics.exists() and metrics.read_text().count("learning_rate") >= steps, **how)
        process.send_signal(signal.SIGUSR1)
        return self.finish(process, STOPPED)

    def finished(self):
        self.train(self.output, "--save-every", "never")
        return self.output

    def copy_of_model(self, **changes):
        model = self.own_path("changed")
        shutil.copytree(self.good, model)
        end_to_end.edit_json(model / "config.json", **changes)
        return model

    def test_finished_is_what_had_the_same_inputs(self):
        output = self.finished()
        before = (output / "model.safetensors").read_bytes()
        again = ("--save-every", "never")
        self.assertIn("finished already", self.train(output, *again))
        moved = self.own_path("moved")
        shutil.copytree(self.good, moved)
        self.assertIn("finished already", self.start(moved, output, *training(again), code=0).stderr)
        other = end_to_end.write_lines(self.own_path("other.jsonl"), [end_to_end.chat(i) for i in range(5, 35)])
        self.assertIn("what --data names was another", self.train(output, *again, data=other, code=CANNOT_CREATE))
        changed = self.copy_of_model(rms_norm_eps=0.3)
        ended = self.start(changed, output, *training(again), code=CANNOT_CREATE)
        self.assertIn("what --model names was another", ended.stderr)
        self.assertEqual((output / "model.safetensors").read_bytes(), before)
        (output / "model.safetensors").unlink()
        self.assertIn("model.safetensors is gone", self.train(output, *again, code=CANNOT_CREATE))

    def test_the_best_of_other_evaluations_is_another(self):
        best = ("--validation", 0.1, "--keep-best", "--export", "best", "--save-every", "never")
        self.train(self.output, *best, "--evaluate-every", 10)
        self.assertIn("finished already", self.train(self.output, *best, "--evaluate-every", 10))
        self.train(self.output, *best, "--evaluate-every", 20, code=CANNOT_CREATE)

    def test_a_changed_configuration_is_refused(self):
        self.stop(self.output)
        changed = self.copy_of_model(rms_norm_eps=0.3)
        ended = self.start(changed, self.output, *training(()), code=CANNOT_CREATE)
        self.assertIn("what --model names has changed", ended.stderr)
        self.assertIn("going on from",
                      self.start(changed, self.output, *training(("--allow-change", "model")), code=0).stderr)

    def test_what_is_broken_is_renamed_and_what_is_whole_stays(self):
        self.stop(self.output)
        *older, newest = checkpoints(self.output)
        break_states(self.output / newest)
        said = self.train(self.output)
        self.assertIn(f"going on from {self.output / older[-1]}", said)
        self.assertRegex(said, f"{newest}: is now {newest}.broken-[0-9a-f]+")
        self.assertTrue([name for name in checkpoints(self.output) if name.startswith(f"{newest}.broken-")])

    def test_what_is_only_whole_but_later_is_renamed(self):
        self.stop(self.output)
        first, *later = checkpoints(self.output)
        said = self.train(self.output, "--resume", self.output / first)
        for name in later:
            self.assertRegex(said, f"{name}: is now {name}.replaced-[0-9a-f]+")
        self.assertEqual(len([name for name in checkpoints(self.output) if ".replaced-" in name]), len(later))

    def test_a_broken_manifest_does_not_stand_in_the_way_of_beginning_anew(self):
        self.stop(self.output)
        for name in checkpoints(self.output):
            os.truncate(self.output / name / "manifest.json", 100)
        self.assertIn("to begin anew, give --resume never", self.train(self.output, code=BAD_DATA))
        self.train(self.output, "--resume", "never")
        self.assertEqual(read_metrics(self.output)[0][0]["step"], 1)

    def test_beginning_anew_says_what_goes(self):
        self.assertIn("the same command goes on from it", self.stop(self.output))
        before = checkpoints(self.output)
        (self.output / "metrics.jsonl").unlink()  # so that its first lines are the next run's
        said = self.stop(self.output, "--resume", "never", steps=2)
        for name in before:
            self.assertIn(f"{name}: goes, with the run that is replaced", said)
        self.assertIn("stops after the step that is under way, with a checkpoint", said)
        self.assertIn("the same command without --resume goes on from it", said)
        self.assertIn("going on from", self.train(self.output))

    def test_somebody_elses_checkpoint_is_left_alone(self):
        self.output.mkdir()
        theirs = self.output / "checkpoint-500"
        theirs.mkdir()
        (theirs / "trainer_state.json").write_text("{}")
        for options in ((), ("--resume", "never")):
            said = self.train(self.output, *options, code=CANNOT_CREATE)
            self.assertIn("checkpoint-500: is there, and is no checkpoint of this run", said)
        self.assertFalse((self.output / "run.json").exists())
        self.assertTrue((theirs / "trainer_state.json").exists())

    def test_files_of_others_in_a_checkpoint_hinder_nothing(self):
        self.stop(self.output)
        first = checkpoints(self.output)[0]
        (self.output / first / "eval.json").write_text("mine")
        self.stop(self.output, "--keep", 1, steps=16)
        self.assertEqual(read_run(self.output)["failure"]["exit_code"], STOPPED)
        kept = [name for name in checkpoints(self.output) if ".old-" in name]
        self.assertEqual(len(kept), 1)
        self.assertEqual((self.output / kept[0] / "eval.json").read_text(), "mine")
        said = self.train(self.output)
        self.assertIn("stays, since it holds files that are none of a checkpoint's", said)
        self.assertEqual((self.output / kept[0] / "eval.json").read_text(), "mine")

    def test_two_outputs_do_not_share_checkpoints(self):
        place = self.own_path("checkpoints")
        one, other = self.own_path("one"), self.own_path("other")
        metrics = one / "metrics.jsonl"
        running = self.begin(self.good, one, *training(("--steps", 3000, "--checkpoint-dir", place)),
                             until=lambda: metrics.exists() and metrics.read_text().count("learning_rate") >= 8)
        said = self.train(other, "--steps", 3000, "--checkpoint-dir", place, code=CANNOT_CREATE)
        self.assertIn("is being written to by another run", said)
        running.send_signal(signal.SIGUSR1)
        self.finish(running, STOPPED)
        before = checkpoints(place)
        said = self.train(other, "--steps", 3000, "--checkpoint-dir", place, code=CANNOT_CREATE)
        self.assertIn("is no checkpoint of this run", said)
        self.assertEqual(checkpoints(place), before)
        self.assertFalse(other.exists())

    def test_a_branch_is_a_run_of_its_own(self):
        branch = self.own_path("branch")
        self.stop(self.output)
        before = checkpoints(self.output)
        said = self.train(branch, "--resume", self.output / before[0], "--learning-rate", 1e-4,
                          "--allow-change", "learning-rate")
        self.assertIn(f"going on from {self.output / before[0]}", said)
        self.assertNotEqual(read_run(branch)["run"], read_run(self.output)["run"])
        self.assertEqual(checkpoints(self.output), before)
        self.train(self.output)

    def test_another_runs_checkpoint_does_not_replace_what_can_go_on(self):
        branch = self.own_path("branch")
        self.stop(self.output)
        self.stop(branch)
        before, lines = checkpoints(branch), (branch / "metrics.jsonl").read_text()
        said = self.train(branch, "--resume", self.output / checkpoints(self.output)[-1], code=CANNOT_CREATE)
        self.assertIn("is of another run than the one that", said)
        self.assertEqual((checkpoints(branch), (branch / "metrics.jsonl").read_text()), (before, lines))

    def test_a_forgotten_checkpoint_folder_is_asked_for(self):
        place = self.own_path("checkpoints")
        self.stop(self.output, "--checkpoint-dir", place)
        lines = (self.output / "metrics.jsonl").read_text()
        said = self.train(self.output, code=MISSING)
        self.assertIn(f"give --checkpoint-dir {place} to go on with it", said)
        hidden = self.own_path("hidden")
        place.rename(hidden)
        said = self.train(self.output, "--checkpoint-dir", place, code=MISSING)
        self.assertIn("bring it back to go on", said)
        self.assertEqual((self.output / "metrics.jsonl").read_text(), lines)
        hidden.rename(place)
        self.assertIn("going on from", self.train(self.output, "--checkpoint-dir", place))

    def test_a_lost_record_does_not_lose_the_run(self):
        place = self.own_path("checkpoints")
        self.stop(self.output, "--checkpoint-dir", place)
        shutil.rmtree(self.output)
        self.assertIn("going on from", self.train(self.output, "--checkpoint-dir", place))

    def test_a_link_in_a_checkpoints_place_is_refused(self):
        archive = self.own_path("archive")
        self.stop(self.output)
        newest = self.output / checkpoints(self.output)[-1]
        newest.rename(archive)
        newest.symlink_to(archive)
        files = sorted(os.listdir(archive))
        self.assertIn("is no checkpoint of this run", self.train(self.output, code=CANNOT_CREATE))
        self.assertEqual(sorted(os.listdir(archive)), files)

    def test_what_a_named_checkpoint_is_not(self):
        self.stop(self.output)
        anew = self.own_path("anew")
        said = self.train(anew, "--resume", self.output, code=MISSING)
        self.assertIn(f"--resume {self.output}: is no checkpoint; the newest one in it is checkpoint-", said)
        said = self.train(anew, "--resume", "Auto", code=MISSING)
        self.assertIn("--resume Auto: is no folder of a checkpoint; else it takes auto or never", said)

    def test_rows_that_are_skipped_are_told(self):
        self.stop(self.output)
        said = self.train(self.output, "--global-batch", 8, "--allow-change", "global-batch")
        self.assertRegex(said, r"rows are skipped or trained again: step \d+ had trained \d+ rows of epoch \d+")

    def test_changes_that_cannot_be(self):
        self.stop(self.output)
        for options, code, says in (
                (("--allow-change", "lerning-rate"), USAGE, "did you mean learning-rate?"),
                (("--allow-change", "freeze"), USAGE, "freeze is not possible"),
                (("--steps", 2, "--allow-change", "steps"), CANNOT_CREATE, "the training has gone on to step")):
            with self.subTest(options=options):
                self.assertIn(says, self.train(self.output, *options, code=code))
        said = self.train(self.output, "--freeze", "model.norm.weight", code=CANNOT_CREATE)
        self.assertNotIn("--allow-change freeze", said)

    def test_a_validation_file_may_be_moved(self):
        first, second = self.own_path("validation.jsonl"), self.own_path("moved.jsonl")
        end_to_end.write_lines(first, [end_to_end.chat(i) for i in range(50, 54)])
        self.stop(self.output, "--validation", first)
        first.rename(second)
        self.assertIn("going on from", self.train(self.output, "--validation", second))

    def test_records_that_are_not_as_a_job_writes_them(self):
        """Named, and passed over, as everything else that is not as it was written."""
        self.stop(self.output)
        *older, newest = checkpoints(self.output)
        path = self.output / newest / "manifest.json"
        whole = json.loads(path.read_text())
        for change in ({"training": []}, {"kinds": {"master": "BF16", "moment1": "F32", "moment2": "F32"}},
                       {"training": {**whole["training"], "best": {"step": "x"}}},
                       {"training": {**whole["training"], "report": {"tokens": "x"}}}):
            with self.subTest(change=str(change)[:60]):
                path.write_text(self.with_checksum({**whole, **change}))
                said = self.train(self.output, "--dry-run")
                self.assertIn("a checkpoint cannot be used", said)
                self.assertIn(f"going on from {self.output / older[-1]}", said)

    @staticmethod
    def with_checksum(manifest):
        text = json.dumps({**manifest, "checksum": "00000000"}, separators=(",", ":"))
        return text.replace('"checksum":"00000000"', f'"checksum":"{crc32c(text.encode()):08x}"')


def crc32c(data):
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    value = 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


if __name__ == "__main__":
    end_to_end.main()
