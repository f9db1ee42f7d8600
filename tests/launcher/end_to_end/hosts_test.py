#!/usr/bin/env python3
"""Ranks on hosts that are not alike: other files under the same name, other launchers, and limits on what may be
used."""

import os
import re
import resource
import shutil

import end_to_end
from end_to_end import UNAVAILABLE, GoodModelTest, chat, edit_tensors, exchange, limit, read_run, tree, write_lines


class FilesTest(GoodModelTest):
    """Every rank names the same paths, "model" and "data.jsonl", which lead each to files of its own."""

    def hosts(self, ranks):
        folders = [self.own_path(f"host-{rank}") for rank in range(ranks)]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copytree(self.good, folder / "model")
            write_lines(folder / "data.jsonl", [chat(i) for i in range(30)])
        return folders

    def start_there(self, ranks, *options, code=0):
        command = self.command("model", self.output, *options, data="data.jsonl")
        return self.run_command(self.on_hosts(ranks, command), code)

    def refuse(self, name, change, *options, ranks=2, other=1):
        folders = self.hosts(ranks)
        change(folders[other])
        ended = self.start_there(ranks, *options, code=UNAVAILABLE)
        for words in ("disagree", name, f"rank {other}"):
            self.assertIn(words, self.sentence(ended))
        self.assertIsNone(tree(self.output))

    def change_tensor(self, folder, change_values=lambda values: values * 1.5):
        def change(tensors):
            name = sorted(tensors)[len(tensors) // 2]
            tensors[name] = change_values(tensors[name])

        edit_tensors(folder / "model" / "model.safetensors", change)

    def test_alike(self):
        self.hosts(2)
        self.start_there(2)

    def test_weights(self):
        for strategy in ("ddp", "zero2", "zero3"):
            with self.subTest(strategy=strategy):
                self.refuse("model/model.safetensors", self.change_tensor, "--strategy", strategy)

    def test_one_value_of_the_weights(self):
        def change(values):
            values.view(-1)[values.numel() // 3] += 1
            return values

        self.refuse("model/model.safetensors", lambda folder: self.change_tensor(folder, change), ranks=3, other=2)

    def test_tokenizer(self):
        def other(folder):
            path = folder / "model" / "tokenizer.json"
            path.write_text(path.read_text() + "\n")

        self.refuse("model/tokenizer.json", other)

    def test_template(self):
        def other(folder):
            path = folder / "model" / "chat_template.jinja"
            path.write_text(path.read_text().replace("assistant", "helper"))

        self.refuse("model/chat_template.jinja", other, "--template", "smollm2")
        self.refuse("model/chat_template.jinja", lambda folder: (folder / "model" / "chat_template.jinja").unlink(),
                    "--template", "smollm2")

    def test_config(self):
        def other(folder):
            path = folder / "model" / "config.json"
            text = re.sub(r'"rms_norm_eps": [0-9.e-]+', '"rms_norm_eps": 1e-3', path.read_text())
            path.write_text(text)

        self.refuse("model/config.json", other)

    def test_stop_tokens(self):
        def other(folder):
            (folder / "model" / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')

        self.refuse("model/generation_config.json", other)

    def test_data(self):
        def append(folder):
            write_lines(folder / "data.jsonl", [*(folder / "data.jsonl").read_text().splitlines(), exchange("a", "b")])

        def one_letter(folder):
            path = folder / "data.jsonl"
            path.write_text(path.read_text().replace("Paris", "Parma", 1))

        self.refuse("data.jsonl", append)
        self.refuse("data.jsonl", lambda folder: (folder / "data.jsonl").unlink())
        self.refuse("data.jsonl", one_letter)

    def test_validation_data(self):
        folders = self.hosts(2)
        for number, folder in enumerate(folders):
            write_lines(folder / "validation.jsonl", [chat(i + number) for i in range(5)])
        ended = self.start_there(2, "--validation", "validation.jsonl", code=UNAVAILABLE)
        self.assertIn("validation.jsonl", self.sentence(ended))

    def test_files_that_do_not_matter(self):
        folders = self.hosts(2)
        (folders[1] / "model" / "README.md").write_text("another host's")
        self.start_there(2)


class LaunchersTest(GoodModelTest):
    def test_launchers_for_pytorch(self):
        for words, variables in (
                (["torchrun", "mpirun -np 2 "], dict(WORLD_SIZE=2, RANK=1, LOCAL_RANK=1, TORCHELASTIC_RUN_ID="none")),
                (["accelerate"], dict(WORLD_SIZE=4, RANK=0, LOCAL_RANK=0, TORCHELASTIC_RUN_ID="none",
                                      ACCELERATE_MIXED_PRECISION="bf16")),
                (["deepspeed", "ppr:4:node"], dict(WORLD_SIZE=8, RANK=5, LOCAL_RANK=1, CROSS_SIZE=2, LOCAL_SIZE=4))):
            with self.subTest(variables=variables):
                environment = dict(os.environ, **{name: str(value) for name, value in variables.items()})
                ended = self.start(self.good, self.output, env=environment, code=UNAVAILABLE)
                for word in words + [f"WORLD_SIZE={variables['WORLD_SIZE']}"]:
                    self.assertIn(word, self.sentence(ended))
                self.assertIsNone(tree(self.output))

    def test_ranks_that_carry_such_variables(self):
        environment = dict(os.environ, WORLD_SIZE="5", RANK="0", LOCAL_RANK="0")
        self.start(self.good, self.output, ranks=2, env=environment, code=0)


class ProcessorsTest(GoodModelTest):
    def setUp(self):
        super().setUp()
        self.environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self.environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("there is one processor")

    def test_threads_follow_the_mask(self):
        one = str(min(os.sched_getaffinity(0)))
        for command, expected in (([], min(64, len(os.sched_getaffinity(0)))), (["taskset", "-c", one], 1)):
            text = self.run_command(command + [self.data_program, "--help"], env=self.environment).stdout
            (found,) = re.findall(r"read and tokenize \[(\d+)\]", text)
            self.assertLessEqual(int(found), expected)
            if command:
                self.assertEqual(int(found), expected)

    def said_under_mpirun(self, *how):
        command = ["mpirun", "-np", 1, *how] + self.command(self.good, self.output, "--overwrite")
        return self.run_command(command, code=0, env=self.environment).stderr

    def test_open_mpis_binding_to_a_core(self):
        self.assertRegex(self.said_under_mpirun(), "bound this rank to one core .* runs on all")
        self.assertRegex(self.said_under_mpirun("--bind-to", "core"), "bound this rank to one core .* --bind-to none")
        self.assertNotIn("one core", self.said_under_mpirun("--bind-to", "none"))


class MemoryTest(GoodModelTest):
    def limited(self, which, kibibytes, **how):
        return self.start(self.good, self.output, preexec_fn=limit(which, kibibytes << 10), **how)

    def test_limits_on_addresses(self):
        """Of what a tiny model needs, and not of the machine's size."""
        for which, kibibytes in ((resource.RLIMIT_AS, 64 << 20), (resource.RLIMIT_AS, 4 << 20),
                                 (resource.RLIMIT_DATA, 1500000), (resource.RLIMIT_DATA, 20 << 20)):
            with self.subTest(which=which, kibibytes=kibibytes):
                self.limited(which, kibibytes, code=0)
                shutil.rmtree(self.output)

    def test_limits_that_are_too_low(self):
        for which, option in ((resource.RLIMIT_AS, "ulimit -v"), (resource.RLIMIT_DATA, "ulimit -d")):
            # Upwards from what no program starts with, until it speaks.
            for mebibytes in range(16, 4096, 16):
                ended = self.limited(which, mebibytes << 10)
                if ended.code in (0, UNAVAILABLE):
                    break
            self.assertEqual(ended.code, UNAVAILABLE, ended)
            least = re.search(f"least that is needed is {option} ([0-9]+)", self.sentence(ended))
            self.assertTrue(least, ended)
            self.limited(which, int(least[1]) + (64 << 10), code=0)
            shutil.rmtree(self.output)

    def available(self):
        with open("/proc/meminfo", encoding="utf-8") as file:
            return int(re.search(r"MemAvailable: +(\d+) kB", file.read())[1]) * 1024

    def test_the_budget_is_what_is_available(self):
        """Shared by the ranks, and less a margin, which is wider here than what other programs take or free
        meanwhile."""
        for ranks in (1, 2):
            before = self.available()
            self.train(self.good, self.output, "--overwrite", ranks=ranks)
            most = max(before, self.available()) / ranks
            self.assertLessEqual(read_run(self.output)["plan"]["device_budget_bytes"], most)


if __name__ == "__main__":
    end_to_end.main()
