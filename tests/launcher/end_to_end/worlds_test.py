"""A run goes on with any number of ranks and any strategy, whatever saved it.

worlds_test.py TRAIN MPIRUN RESAVE [--all] [unittest arguments]: the program autoglm-train, the script that runs a program
on several ranks, and resave_program. With --all every pair of numbers of ranks from one to four, and of strategies.

Every case saves in one way and loads in another. First the states: what the loading ranks save at once has the same
hash. Then the training: autoglm-train goes on with the same samples and losses as the run that saved; on as many ranks
as before, with the same bits.
"""

import hashlib
import json
import re
import shutil
import sys
import unittest
from typing import NamedTuple

import end_to_end
import torch
from end_to_end import EndToEndTest, chat, make_model, read_metrics, read_run, write_lines
from safetensors import safe_open

WORLDS = (1, 2, 3, 4)
SAVED_STEP, STEPS = 3, 8  # in the first epoch, in the second
LOSS_TOLERANCE = 1e-5
# Rows for every number of ranks alike. An odd number of rows in an epoch leaves its last step less.
TRAINING = ("--global-batch", 12, "--micro-batch", 1, "--steps", STEPS, "--save-every", SAVED_STEP, "--learning-rate", 1e-3)
# The second has biases and norms, whose sizes are no multiples of the ranks'.
MODELS = {"bf16": "llama_untied", "fp32": "glm4"}


class Way(NamedTuple):
    """Where the states of a run lie."""

    strategy: str
    master: str
    offload: float

    def options(self):
        return ("--strategy", self.strategy, "--master", self.master, "--offload-optimizer", self.offload)


# Bits of a way's number: offload, strategy, master. fp32 has no split master.
WAYS = [Way(strategy, master, offload) for master in ("plain", "split") for strategy in ("ddp", "zero3")
        for offload in (0, 0.5)]
NUM_WAYS = {"bf16": 8, "fp32": 4}


class Case(NamedTuple):
    precision: str
    saving: int  # ranks
    saved: Way
    loading: int
    loaded: Way


def some_cases():
    """Four pairs in which every number of ranks saves and loads, each with its opposite way; and one on the same ranks."""
    cases = []
    for precision, saved in (("bf16", (0, 5, 2, 7)), ("fp32", (0, 1, 2, 3))):
        opposite = NUM_WAYS[precision] - 1
        cases += [Case(precision, saving, WAYS[way], saving % 4 + 1, WAYS[way ^ opposite])
                  for saving, way in zip(WORLDS, saved)]
    return cases + [cases[1]._replace(loading=cases[1].saving)]


def all_cases():
    """All 16 pairs of ranks, each with every way of saving and of loading, so that all pairs of ways are met."""
    cases = []
    for precision, ways in NUM_WAYS.items():
        for a in range(4):
            for b in range(4):
                # Two pairs of ranks for each of the eight differences between ways (four for each of fp32's four).
                changed = {((a + b) % 4 + 4 * (a // 2 ^ b % 2)) % ways}
                if a == b:
                    changed.add(ways - 1)
                cases += [Case(precision, a + 1, WAYS[way], b + 1, WAYS[way ^ bits])
                          for bits in sorted(changed) for way in range(ways)]
    return cases


def read_checkpoint(folder):
    """docs/checkpoints.md's reader, which also makes sure that every element is there once."""
    manifest = json.loads((folder / "manifest.json").read_text())
    dtypes = {"F32": torch.float32, "BF16": torch.bfloat16}
    tensors = {f"{kind}/{one['name']}": torch.empty(one["shape"], dtype=dtypes[dtype])
               for kind, dtype in manifest["kinds"].items() for one in manifest["parameters"]}
    times = {name: torch.zeros(tensor.numel(), dtype=torch.int32) for name, tensor in tensors.items()}
    for file in manifest["files"]:
        with safe_open(folder / file["name"], "pt") as states:
            for name in states.keys():
                whole, offset = name.rsplit("/", 1)
                run = states.get_tensor(name)
                place = slice(int(offset), int(offset) + len(run))
                tensors[whole].view(-1)[place] = run
                times[whole][place] += 1
    assert all((one == 1).all() for one in times.values()), f"{folder}: elements are missing, or there twice"
    return manifest, tensors


def state_hash(tensors):
    """Of kinds, parameters, shapes and all bytes: the same however ranks shared them."""
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


class WorldsTest(EndToEndTest):
    resave_program = None
    cases = []

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.models = {precision: make_model(cls.folder / precision, family) for precision, family in MODELS.items()}
        # Of many lengths, so that a step's numbers of tokens tell which samples it had.
        cls.data = write_lines(cls.folder / "data.jsonl", [chat(i, words=1 + i * 5 % 13) for i in range(90)])
        cls.references = {}
        cls.orders = {}
        cls.largest = dict.fromkeys(MODELS, 0.0)
        cls.num_exact = 0

    @classmethod
    def tearDownClass(cls):
        print(f"{len(cls.cases)} cases, {cls.num_exact} of them on the same ranks; losses differ by at most {cls.largest}")

    def words(self, precision, way, output, *options):
        """What both programs are told of a run."""
        return self.command(self.models[precision], output, *TRAINING, "--precision", precision, *way.options(), *options,
                            data=self.data)

    def check_way(self, way, ranks, strategy, num_ranks):
        self.assertEqual(num_ranks, ranks)
        self.assertEqual((strategy["strategy"], strategy["master"], strategy["offload_optimizer"]), way)

    def reference(self, precision, ranks, way):
        """A run that saves on its way and goes on to its end: its output, and the hash of what it has saved."""
        key = precision, ranks, way
        if key not in self.references:
            output = self.folder / "-".join(map(str, ("reference", precision, ranks, *way)))
            self.run_command(self.on_ranks(ranks, self.words(precision, way, output)), code=0)
            manifest, tensors = read_checkpoint(output / f"checkpoint-{SAVED_STEP}")
            self.check_way(way, ranks, manifest["training"]["strategy"], len(manifest["files"]))
            self.assertEqual({name.split("/")[0] for name in tensors}, {"master", "moment1", "moment2"})
            self.references[key] = output, manifest, state_hash(tensors)
        return self.references[key]

    def go_on(self, ranks):
        cases = [case for case in self.cases if case.loading == ranks]
        self.assertTrue(cases)
        self.resave(ranks, cases)
        for number, case in enumerate(cases):
            with self.subTest(**case._asdict()):
                self.check_states(case, self.own_path(f"states-{number}"))
                self.check_training(case, self.own_path(f"output-{number}"))

    def resave(self, ranks, cases):
        command = [self.mpirun, ranks, self.resave_program]
        for number, case in enumerate(cases):
            saved = self.reference(case.precision, case.saving, case.saved)[0] / f"checkpoint-{SAVED_STEP}"
            command += ["--"] * (number > 0)
            command += self.words(case.precision, case.loaded, self.own_path(f"states-{number}"), "--resume", saved)[1:]
        self.run_command(command, code=0, seconds=end_to_end.RUN_SECONDS + 5 * len(cases))

    def check_states(self, case, output):
        reference, saved, expected = self.reference(case.precision, case.saving, case.saved)
        manifest, tensors = read_checkpoint(output / f"checkpoint-{SAVED_STEP}")
        training = manifest["training"]
        self.check_way(case.loaded, case.loading, training["strategy"], len(manifest["files"]))
        self.assertEqual(state_hash(tensors), expected)
        # The place in the data, as these ranks count it.
        self.assertEqual(training["data"], saved["training"]["data"])
        self.check_order(case.precision, json.loads((output / "rows.json").read_text()), read_metrics(reference)[0])
        shutil.rmtree(output)

    def check_order(self, model, rows_of_steps, steps):
        """These ranks train the same samples in the same rows as all others, and those that the saving run has counted."""
        self.assertEqual(list(map(int, rows_of_steps)), list(range(SAVED_STEP + 1, STEPS + 1)))
        for step, rows in rows_of_steps.items():
            rows.sort()
            self.assertEqual([row for row, *_ in rows], list(range(rows[0][0], rows[0][0] + len(rows))))
            self.assertEqual(self.orders.setdefault((model, step), rows), rows)
            line = steps[int(step) - 1]
            self.assertEqual([sum(row[2] for row in rows), sum(row[3] for row in rows)],
                             [line["tokens"], line["supervised_tokens"]])

    def check_training(self, case, output):
        reference, saved, _ = self.reference(case.precision, case.saving, case.saved)
        command = self.words(case.precision, case.loaded, output, "--resume", reference / f"checkpoint-{SAVED_STEP}")
        self.run_command([self.mpirun, case.loading] + command, code=0)
        run = read_run(output)
        self.check_way(case.loaded, case.loading, run["plan"], len(run["ranks"]))
        mine, theirs = read_metrics(output)[0], read_metrics(reference)[0][SAVED_STEP:]
        for name in ("step", "epoch", "learning_rate", "tokens", "supervised_tokens"):
            self.assertEqual([line[name] for line in mine], [line[name] for line in theirs])
        differences = [abs(a["loss"] - b["loss"]) for a, b in zip(mine, theirs)]
        self.largest[case.precision] = max(self.largest[case.precision], *differences)
        self.assertLessEqual(max(differences), LOSS_TOLERANCE, differences)
        # Strategies change no bit; the number of ranks only the order of sums.
        if case.loading == case.saving:
            type(self).num_exact += 1
            self.assertEqual([(line["loss"], line["gradient_norm"]) for line in mine],
                             [(line["loss"], line["gradient_norm"]) for line in theirs])
            self.assertEqual((output / "model.safetensors").read_bytes(), (reference / "model.safetensors").read_bytes())
        shutil.rmtree(output)

    def test_rows_of_a_micro_batch_suit_the_ranks(self):
        """What one rank computes at a time is the whole step: on more ranks all but one would have nothing."""
        whole = [12 if before == "--micro-batch" else one for before, one in zip(("", *TRAINING), TRAINING)]
        saved = self.own_path("saved")
        self.start(self.models["fp32"], saved, *whole, data=self.data, code=0)
        command = self.command(self.models["fp32"], self.own_path("output"), *whole, "--resume",
                               saved / f"checkpoint-{SAVED_STEP}", "--dry-run", data=self.data)
        place = command.index("--micro-batch")
        del command[place:place + 2]
        for ranks in (1, 4):
            said = self.run_command(self.on_ranks(ranks, command), code=0).stderr
            rows = int(re.search(r" of (\d+) rows? per rank", said)[1])
            (self.assertEqual if ranks == 1 else self.assertLessEqual)(rows, 12 // ranks, said)

    def test_on_one_rank(self):
        self.go_on(1)

    def test_on_two_ranks(self):
        self.go_on(2)

    def test_on_three_ranks(self):
        self.go_on(3)

    def test_on_four_ranks(self):
        self.go_on(4)


def main():
    if len(sys.argv) < 4:
        sys.exit(f"{sys.argv[0]} TRAIN MPIRUN RESAVE [--all] [unittest arguments]")
    EndToEndTest.train_program, EndToEndTest.mpirun, WorldsTest.resave_program = sys.argv[1:4]
    arguments = sys.argv[4:]
    WorldsTest.cases = all_cases() if "--all" in arguments else some_cases()
    unittest.main(argv=[sys.argv[0]] + [one for one in arguments if one != "--all"], verbosity=2)


if __name__ == "__main__":
    main()
