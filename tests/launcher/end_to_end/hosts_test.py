#!/usr/bin/env python3
"""Ranks on hosts that are not alike: other files under the same name, other launchers, and limits on what may be used."""

import os
import re
import resource
import shutil

import end_to_end
from end_to_end import chat, make_model, read_run, run_bounded, tree, write_lines
from safetensors.numpy import load_file, save_file

UNAVAILABLE = 69


class HostsTest(end_to_end.EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = make_model(cls.folder / "good")

    def setUp(self):
        self.output = self.folder / (self.id() + "-output")

    def sentence(self, ended):
        sentences = [line for line in ended.stderr.splitlines() if line.startswith("autoglm-train: ")]
        self.assertEqual(len(sentences), 1, ended)
        return sentences[0]


class FilesTest(HostsTest):
    """Every rank names the same paths, "model" and "data.jsonl", which lead each to files of its own."""

    def hosts(self, ranks):
        folders = [self.folder / f"{self.id()}-{rank}" for rank in range(ranks)]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            shutil.copytree(self.good, folder / "model")
            write_lines(folder / "data.jsonl", [chat(i) for i in range(30)])
        return folders

    def start_there(self, ranks, *options):
        script = self.folder / "on-its-host.sh"
        script.write_text('#!/bin/sh\ncd "$1-$OMPI_COMM_WORLD_RANK" && shift && exec "$@"\n')
        script.chmod(0o755)
        command = self.command("model", self.output, *options, data="data.jsonl")
        return run_bounded([self.mpirun, ranks, script, self.folder / self.id()] + command)

    def refuse(self, name, change, *options, ranks=2, other=1):
        folders = self.hosts(ranks)
        change(folders[other])
        ended = self.start_there(ranks, *options)
        self.assertEqual(ended.code, UNAVAILABLE, ended)
        for words in ("disagree", name, f"rank {other}"):
            self.assertIn(words, self.sentence(ended))
        self.assertIsNone(tree(self.output))

    def change_tensor(self, folder, strategy=lambda values: values * 1.5):
        path = folder / "model" / "model.safetensors"
        tensors = load_file(path)
        name = sorted(tensors)[len(tensors) // 2]
        tensors[name] = strategy(tensors[name])
        save_file(tensors, path, metadata={"format": "pt"})

    def test_alike(self):
        self.hosts(2)
        ended = self.start_there(2)
        self.assertEqual(ended.code, 0, ended)

    def test_weights(self):
        for strategy in ("ddp", "zero2", "zero3"):
            with self.subTest(strategy=strategy):
                self.refuse("model/model.safetensors", self.change_tensor, "--strategy", strategy)

    def test_one_value_of_the_weights(self):
        def change(values):
            values.flat[values.size // 3] += 1
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
            with open(folder / "data.jsonl", "a", encoding="utf-8") as file:
                file.write('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')

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
        ended = self.start_there(2, "--validation", "validation.jsonl")
        self.assertEqual(ended.code, UNAVAILABLE, ended)
        self.assertIn("validation.jsonl", self.sentence(ended))

    def test_files_that_do_not_matter(self):
        folders = self.hosts(2)
        (folders[1] / "model" / "README.md").write_text("another host's")
        ended = self.start_there(2)
        self.assertEqual(ended.code, 0, ended)


class LaunchersTest(HostsTest):
    def test_launchers_for_pytorch(self):
        for words, variables in (
                (["torchrun", "mpirun -np 2 "], dict(WORLD_SIZE=2, RANK=1, LOCAL_RANK=1, TORCHELASTIC_RUN_ID="none")),
                (["accelerate"], dict(WORLD_SIZE=4, RANK=0, LOCAL_RANK=0, TORCHELASTIC_RUN_ID="none",
                                      ACCELERATE_MIXED_PRECISION="bf16")),
                (["deepspeed", "ppr:4:node"], dict(WORLD_SIZE=8, RANK=5, LOCAL_RANK=1, CROSS_SIZE=2, LOCAL_SIZE=4))):
            with self.subTest(variables=variables):
                environment = dict(os.environ, **{name: str(value) for name, value in variables.items()})
                ended = self.start(self.good, self.output, env=environment)
                self.assertEqual(ended.code, UNAVAILABLE, ended)
                for word in words + [f"WORLD_SIZE={variables['WORLD_SIZE']}"]:
                    self.assertIn(word, self.sentence(ended))
                self.assertIsNone(tree(self.output))

    def test_ranks_that_carry_such_variables(self):
        environment = dict(os.environ, WORLD_SIZE="5", RANK="0", LOCAL_RANK="0")
        ended = self.start(self.good, self.output, ranks=2, env=environment)
        self.assertEqual(ended.code, 0, ended)


class ProcessorsTest(HostsTest):
    def setUp(self):
        super().setUp()
        self.environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self.environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("there is one processor")

    def test_threads_follow_the_mask(self):
        one = str(min(os.sched_getaffinity(0)))
        for command, expected in (([], min(64, len(os.sched_getaffinity(0)))), (["taskset", "-c", one], 1)):
            text = run_bounded(command + [self.data_program, "--help"], env=self.environment).stdout
            (found,) = re.findall(r"read and tokenize \[(\d+)\]", text)
            self.assertLessEqual(int(found), expected)
            if command:
                self.assertEqual(int(found), expected)

    def mpirun_command(self, *how):
        return ["mpirun", "-np", 1, *how] + self.command(self.good, self.output)

    def test_open_mpis_binding_to_a_core(self):
        ended = run_bounded(self.mpirun_command(), env=self.environment)
        self.assertEqual(ended.code, 0, ended)
        self.assertRegex(ended.stderr, "bound this rank to one core .* runs on all")
        shutil.rmtree(self.output)
        ended = run_bounded(self.mpirun_command("--bind-to", "core"), env=self.environment)
        self.assertEqual(ended.code, 0, ended)
        self.assertRegex(ended.stderr, "bound this rank to one core .* --bind-to none")
        shutil.rmtree(self.output)
        ended = run_bounded(self.mpirun_command("--bind-to", "none"), env=self.environment)
        self.assertNotIn("one core", ended.stderr)


class MemoryTest(HostsTest):
    def limited(self, which, kibibytes):
        return self.start(self.good, self.output, preexec_fn=lambda: resource.setrlimit(which, (kibibytes << 10,) * 2))

    def test_limits_on_addresses(self):
        """Of what a tiny model needs, and not of the machine's size."""
        for which, kibibytes in ((resource.RLIMIT_AS, 64 << 20), (resource.RLIMIT_AS, 4 << 20),
                                 (resource.RLIMIT_DATA, 1500000), (resource.RLIMIT_DATA, 20 << 20)):
            with self.subTest(which=which, kibibytes=kibibytes):
                ended = self.limited(which, kibibytes)
                self.assertEqual(ended.code, 0, ended)
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
            ended = self.limited(which, int(least[1]) + (64 << 10))
            self.assertEqual(ended.code, 0, ended)
            shutil.rmtree(self.output)

    def available(self):
        with open("/proc/meminfo", encoding="utf-8") as file:
            return int(re.search(r"MemAvailable: +(\d+) kB", file.read())[1]) * 1024

    def test_the_budget_is_what_is_available(self):
        """Shared by the ranks, and less a margin, which is wider here than what other programs take or free meanwhile."""
        for ranks in (1, 2):
            before = self.available()
            self.train(self.good, self.output, "--overwrite", ranks=ranks)
            most = max(before, self.available()) / ranks
            self.assertLessEqual(read_run(self.output)["plan"]["device_budget_bytes"], most)


if __name__ == "__main__":
    end_to_end.main()
