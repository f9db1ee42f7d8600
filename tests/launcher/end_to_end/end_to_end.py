"""What the end-to-end tests share: tiny models, chats, and running the commands with a limit of time.

Every driver is called with TRAIN DATA MPIRUN [unittest arguments]: the programs autoglm-train and autoglm-data, and
the script that runs a program on several ranks.
"""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "tests" / "trainer" / "data"))

import model_templates
import tiny_tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Glm4Config, GenerationConfig, LlamaConfig, OPTConfig
from transformers.utils import logging

logging.disable_progress_bar()
torch.set_num_threads(1)

VOCABULARY = 512  # a little more than the tokenizers have, as in many models
RUN_SECONDS = 60
# The exit codes of base/error.h.
USAGE, BAD_DATA, MISSING, UNAVAILABLE = 64, 65, 66, 69
CANNOT_CREATE, IO_FAILED, NOT_FINITE, DOES_NOT_FIT = 73, 74, 77, 78
# Options of a training whose loss is soon no number.
DIVERGING = ("--learning-rate", 1, "--weight-decay", 10, "--clip", 0, "--warmup", 0, "--schedule", "constant",
             "--steps", 80)
SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=VOCABULARY, max_position_embeddings=256, initializer_range=0.1)
OPT_SIZES = dict(hidden_size=64, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY,
                 max_position_embeddings=160, init_std=0.1)
FAMILIES = {
    "llama_tied": ("smollm2", lambda: LlamaConfig(tie_word_embeddings=True, **SIZES)),
    "llama_untied": ("llama3", lambda: LlamaConfig(tie_word_embeddings=False, **SIZES)),
    "glm4": ("glm4", lambda: Glm4Config(head_dim=16, attention_bias=True, pad_token_id=0, eos_token_id=[1, 2],
                                        **SIZES)),
    "opt": ("smollm2", lambda: OPTConfig(**OPT_SIZES)),
    "opt_norms_last": ("smollm2", lambda: OPTConfig(do_layer_norm_before=False, word_embed_proj_dim=48, **OPT_SIZES)),
}
TEMPLATES = {"smollm2": "SMOLLM2", "llama3": "LLAMA3", "glm4": "GLM4"}
TOPICS = ["Paris", "a fox", "the park", "tea", "how you are", "今天天气", "Köln", "dogs", "the capital of France"]


def make_model(folder, family="llama_tied", dtype=torch.float32, shard_size="50GB", **changes):
    """A random model of this family in `folder`, with its tokenizer, as transformers saves them."""
    template, make_config = FAMILIES[family]
    config = make_config()
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.generation_config = GenerationConfig(max_new_tokens=7)
    model.save_pretrained(folder, max_shard_size=shard_size)
    tokenizer = tiny_tokenizers.for_template(template, getattr(model_templates, TEMPLATES[template]))
    assert len(tokenizer) <= VOCABULARY
    tokenizer.save_pretrained(folder)
    return pathlib.Path(folder)


def edit_json(path, change=None, **fields):
    """Sets fields of a JSON file, after change(value) where that is given."""
    value = json.loads(path.read_text())
    if change:
        change(value)
    value.update(fields)
    path.write_text(json.dumps(value))


def edit_tensors(path, change):
    """Writes a file of tensors anew after change(tensors), which may return others; returns what is written."""
    tensors = load_file(path)
    changed = change(tensors)
    if isinstance(changed, dict):
        tensors = changed
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return tensors


def exchange(question, answer):
    """A conversation of one question and its answer."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def chat(number, words=6):
    """One conversation, different for every number."""
    topic = TOPICS[number % len(TOPICS)]
    turns = []
    for turn in range(1 + number % 2):
        question = f"Tell me about {topic}, please, {number + turn} times."
        answer = " ".join(f"{topic} {(number * 7 + i) % 11}" for i in range(words + 5 * (number % 4)))
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


def write_lines(path, objects):
    path = pathlib.Path(path)
    path.write_text("".join((o if isinstance(o, str) else json.dumps(o, ensure_ascii=False)) + "\n" for o in objects))
    return path


class Ended:
    """How a command ended."""

    def __init__(self, code, stdout, stderr):
        self.code = code
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self):
        return f"exit code {self.code}\n{self.stdout}{self.stderr}"


def limit(which, most):
    """What a process does before it becomes a command, so that it has `most` of a resource."""
    return lambda: resource.setrlimit(which, (most, most))


def run_bounded(command, seconds=RUN_SECONDS, **how):
    """Runs a command; one that hangs is ended with all its ranks, and fails the test."""
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True, **how)
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # mpirun ends its ranks
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        raise AssertionError(f"still running after {seconds} s: {' '.join(map(str, command))}") from None
    return Ended(process.returncode, stdout, stderr)


def tree(folder):
    """Every path below a folder and the bytes of its files; None when there is no such folder."""
    folder = pathlib.Path(folder)
    if not folder.exists():
        return None
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(folder.rglob("*"))}


def read_metrics(output):
    """The steps and the evaluations of a run, in the order in which they were written."""
    lines = [json.loads(line) for line in (pathlib.Path(output) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line], [line for line in lines if "validation_loss" in line]


def read_run(output):
    return json.loads((pathlib.Path(output) / "run.json").read_text())


class EndToEndTest(unittest.TestCase):
    """A folder of its own for every test class, and the commands."""

    train_program = data_program = mpirun = None

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="autoglm-end-to-end-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.training = write_lines(cls.folder / "training.jsonl", [chat(i) for i in range(30)])
        cls.validation = write_lines(cls.folder / "validation.jsonl", [chat(i) for i in range(100, 107)])

    def command(self, model, output, *options, data=None):
        defaults = {"--sequence-length": 128, "--global-batch": 4, "--micro-batch": 1, "--precision": "fp32",
                    "--learning-rate": 0.003, "--steps": 3}
        if "--epochs" in options:
            del defaults["--steps"]
        words = [self.train_program, "--model", model, "--data", data or self.training, "--output", output]
        for name, value in defaults.items():
            if name not in options:
                words += [name, value]
        return words + list(options)

    def on_ranks(self, ranks, command):
        return command if ranks == 1 else [self.mpirun, ranks] + command

    def on_hosts(self, ranks, command):
        """The command as on hosts with files of their own: every rank runs in its folder own_path("host-RANK")."""
        script = self.own_path("on-its-host.sh")
        script.write_text('#!/bin/sh\ncd "$1-$OMPI_COMM_WORLD_RANK" && shift && exec "$@"\n')
        script.chmod(0o755)
        return [self.mpirun, ranks, script, self.own_path("host")] + command

    def own_path(self, name):
        """A path that no other test has."""
        return self.folder / f"{self.id()}-{name}"

    def run_command(self, command, code=None, **how):
        """Runs a command and returns how it ended: with this exit code, where one is given."""
        ended = run_bounded(command, **how)
        if code is not None:
            self.assertEqual(ended.code, code, ended)
        return ended

    def start(self, model, output, *options, ranks=1, data=None, **how):
        """Runs autoglm-train as run_command does."""
        return self.run_command(self.on_ranks(ranks, self.command(model, output, *options, data=data)), **how)

    def train(self, model, output, *options, ranks=1, data=None):
        """Runs autoglm-train, which must succeed; returns its steps and evaluations."""
        self.start(model, output, *options, ranks=ranks, data=data, code=0)
        return read_metrics(output)

    def sentence(self, ended):
        """The one sentence that a command which failed has said."""
        sentences = [line for line in ended.stderr.splitlines() if line.startswith("autoglm-train: ")]
        self.assertEqual(len(sentences), 1, ended)
        return sentences[0]


class GoodModelTest(EndToEndTest):
    """A model for every test class, which trains as it is or in changed copies, and an output for every test."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.good = make_model(cls.folder / "good")

    def setUp(self):
        self.output = self.own_path("output")

    def copy_model(self, name="model"):
        return pathlib.Path(shutil.copytree(self.good, self.own_path(name)))

    def model_with(self, change, name="model"):
        """A copy of the model after change(tensors), which may return others."""
        model = self.copy_model(name)
        edit_tensors(model / "model.safetensors", change)
        return model

    def mount(self, size):
        """A small file system of its own, or no test."""
        folder = self.own_path("mounted")
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            self.skipTest("a file system cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder


def main():
    if len(sys.argv) < 4:
        sys.exit(f"{sys.argv[0]} TRAIN DATA MPIRUN [unittest arguments]")
    EndToEndTest.train_program, EndToEndTest.data_program, EndToEndTest.mpirun = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0]] + sys.argv[4:], verbosity=2)
