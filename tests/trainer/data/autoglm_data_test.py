"""The command autoglm-data: its JSON against transformers on real data, its summary, and bad input.

    autoglm_data_test.py AUTOGLM_DATA MODEL_DIRECTORY DATA_DIRECTORY
"""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from transformers import AutoTokenizer

IGNORED = -100
ROW = 512


def run(*arguments, stdout=subprocess.PIPE):
    command = [COMMAND, *map(str, arguments)]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, timeout=100, encoding="utf-8")


def reference(tokenizer, sample):
    """Ids and labels of an alpaca sample, by rendering it with and without its answer."""
    question = "\n".join(part for part in (sample["instruction"], sample.get("input")) if part)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": sample["output"]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    begin = len(tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True))
    end = len(text) - len("\n")
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoding["input_ids"], encoding["offset_mapping"])
    labels = [token if begin <= at < end else IGNORED for token, (at, _) in pairs]
    return encoding["input_ids"][:ROW], labels[:ROW]


class RealData(unittest.TestCase):
    def setUp(self):
        self.files = [Path(DATA, name) for name in ("alpaca_en_demo.json", "alpaca_zh_demo.json", "identity.json")]
        missing = [str(path) for path in (*self.files, Path(MODEL, "tokenizer.json")) if not path.exists()]
        if missing:
            self.skipTest(f"not prepared: {', '.join(missing)} (scripts/setup.sh)")

    def test_json_equals_transformers(self):
        done = run("--model", MODEL, "--data", *self.files, "--sequence-length", ROW, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        ours = [json.loads(line) for line in done.stdout.splitlines()]
        tokenizer = AutoTokenizer.from_pretrained(MODEL)
        wanted = []
        for path in self.files:
            for sample in json.loads(path.read_text()):
                ids, labels = reference(tokenizer, sample)
                if any(label != IGNORED for label in labels[1:]):
                    wanted.append({"ids": ids, "labels": labels})
        self.assertGreater(len(wanted), 2000)
        self.assertEqual(len(ours), len(wanted))
        for i, (one, other) in enumerate(zip(ours, wanted)):
            self.assertEqual(one, other, i)

    def test_rows_are_full(self):
        done = run("--model", MODEL, "--data", self.files[0], "--sequence-length", ROW, "--packing", "on")
        fill = re.search(r"rows of 512 tokens, ([\d.]+) % filled", done.stdout)
        self.assertGreaterEqual(float(fill[1]), 95, done.stdout)
        unpacked = run("--model", MODEL, "--data", self.files[0], "--sequence-length", ROW, "--packing", "off")
        self.assertIn("999 samples in 999 rows", unpacked.stdout)

    def test_samples_are_shown(self):
        arguments = ["--model", MODEL, "--data", self.files[2], "--show", "2"]
        plain = run(*arguments).stdout
        self.assertEqual(plain.count("\nSample "), 2)
        self.assertIn("⟦Hello! I am {{name}}", plain)
        self.assertIn("<|im_end|>⟧", plain)
        self.assertNotIn("\x1b", plain)
        self.assertIn("\x1b[32mHello! I am {{name}}", run(*arguments, "--color", "always").stdout)

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            done = run("--model", MODEL, "--data", self.files[2], "--json", stdout=full)
        self.assertEqual(done.returncode, 74, done.stderr)


class BadInput(unittest.TestCase):
    CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]}\n'

    def setUp(self):
        if not Path(MODEL, "tokenizer.json").exists():
            self.skipTest("the model is not prepared (scripts/setup.sh)")
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def check(self, code, sentence, content=CHAT, arguments=(), name="data.jsonl"):
        path = Path(self.folder.name, name)
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        done = run("--model", MODEL, "--data", path, *arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertRegex(done.stderr, sentence)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_files(self):
        self.check(66, r"none\.jsonl cannot be opened: No such file", None, name="none.jsonl")
        self.check(65, r"data\.jsonl holds no samples", "")
        self.check(65, r"data\.jsonl holds no samples", "[]")
        self.check(65, r"data\.jsonl:2: not valid JSON", self.CHAT + '{"messages": [\n')
        self.check(65, r"data\.jsonl:2: it is not valid UTF-8", self.CHAT.encode() + b'{"text": "\xff"}\n')
        self.check(65, r"data\.jsonl:3: turn 1 has the unknown role \"boss\"", self.CHAT + "\n" + self.CHAT.replace("user", "boss"))
        self.check(65, r"nothing to supervise in .*data\.jsonl", '{"messages": [{"role": "user", "content": "Hi"}]}')
        self.check(65, r"data\.jsonl:2: turn 2 is a system turn",
                   self.CHAT + self.CHAT.replace("assistant", "system"))
        self.check(65, r"data\.jsonl:1: the sample has \d+ tokens, and a row has 16", self.CHAT,
                   ["--sequence-length", "16", "--overlong", "error"])

    def test_options(self):
        self.check(64, r"sequence-lenght.*--sequence-length", self.CHAT, ["--sequence-lenght", "5"])
        self.check(64, r"--template.*none of|--template takes auto or one of chatml", self.CHAT, ["--template", "nope"])
        self.check(64, r"--overlong", self.CHAT, ["--overlong", "maybe"])
        self.check(64, r"--sequence-length", self.CHAT, ["--sequence-length", "1"])
        self.check(64, r"--validation", self.CHAT, ["--validation", "1.5"])
        self.check(66, r"held_out\.jsonl", self.CHAT, ["--validation", "held_out.jsonl"])
        self.check(65, r"no token <\|eot_id\|>.*--template", self.CHAT, ["--template", "llama3"])

    def test_required(self):
        done = run("--model", MODEL)
        self.assertEqual(done.returncode, 64)
        self.assertIn("--data", done.stderr)
        done = run("--model", self.folder.name, "--data", "x.jsonl")
        self.assertEqual(done.returncode, 66)
        self.assertIn("is not a model directory", done.stderr)

    def test_help_and_version(self):
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for name in ("--model", "--data", "--template", "--loss-on", "--eot", "--overlong", "--packing", "--show", "--json"):
            self.assertIn(name, done.stdout)
        self.assertRegex(run("--version").stdout, r"^autoglm-data \d+\.\d+\.\d+")


if __name__ == "__main__":
    COMMAND, MODEL, DATA = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
