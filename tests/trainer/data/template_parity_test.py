"""Built-in chat templates against transformers: the same text, the same ids, and the loss mask token by token.

    template_parity_test.py RENDER_TOOL [MODEL_DIRECTORY]

MODEL_DIRECTORY, if it exists, is a real model whose own template and tokenizer join the test.
"""

import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from transformers import AutoTokenizer

import model_templates
import tiny_tokenizers

RENDER_TOOL = None
REAL_MODEL = None
IGNORED = -100

PIECES = [
    "Hello", " world", "\n", "\n\n", " ", "  ", "\t", "世界", "Grüße", "👩‍👩‍👧", "é", "e\u0301", "\u00a0", "\u3000", "'s",
    "123456",
    "<think>x</think>", "[INST]", "<<SYS>>", "{{ messages }}", "{% if %}", "\\n", '"', "<|im_end|>", "<|user|>",
    "</s>",
    "<|eot_id|>", "a" * 30, "\r\n", "\u2028",
]


def random_content(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 1, 2, 3, 6])))


def random_chat(rng):
    messages = [{"role": "system", "content": random_content(rng)}] if rng.random() < 0.5 else []
    for turn in range(rng.randint(1, 7)):
        messages.append({"role": "assistant" if turn % 2 else "user", "content": random_content(rng)})
    return messages


def render(tokenizer, messages, generation_prompt=False):
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation_prompt)


def run_tool(model, chats, template="auto", eot="user", loss_on="assistant"):
    lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
    command = [RENDER_TOOL, model, template, eot, loss_on]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def answers(tokenizer, messages, family):
    """Where the model's own words stand in the rendered text, by rendering growing prefixes of the chat."""
    spans = []
    for i, message in enumerate(messages):
        skipped = family == "glm4-chat" and not message["content"]
        if message["role"] != "assistant" or skipped:
            continue
        begin = len(render(tokenizer, messages[:i], generation_prompt=True))
        end = len(render(tokenizer, messages[: i + 1]))
        newline_after = family in ("chatml", "smollm2", "qwen", "qwen2", "zephyr")
        spans.append((begin, end - 1 if newline_after else end))
    return spans


def expected(tokenizer, messages, family, eot="user"):
    """Text, ids and labels as they must be."""
    text = render(tokenizer, messages)
    spans = answers(tokenizer, messages, family)
    appended = ""
    if family.startswith("glm4") and spans and spans[-1][1] == len(text):
        appended = "<|user|>" if eot == "user" else "<|endoftext|>"
    encoding = tokenizer(text + appended, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoding["input_ids"]
    labels = []
    for token, (begin, _) in zip(ids, encoding["offset_mapping"]):
        label = token if any(b <= begin < e for b, e in spans) else IGNORED
        if family.startswith("glm4") and any(begin == e for _, e in spans):
            label = token if eot == "user" else tokenizer.convert_tokens_to_ids("<|endoftext|>")
        labels.append(label)
    return text, appended, ids, labels


class TemplateParity(unittest.TestCase):
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.models = {}
        for family, (_, chat_template) in model_templates.MODELS.items():
            tokenizer = tiny_tokenizers.for_template(family, chat_template)
            path = Path(cls.folder.name) / family
            tokenizer.save_pretrained(path)
            cls.models[family] = (str(path), tokenizer)
        if REAL_MODEL and Path(REAL_MODEL, "tokenizer.json").exists():
            cls.models["smollm2 itself"] = (REAL_MODEL, AutoTokenizer.from_pretrained(REAL_MODEL))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def name_of(self, family):
        return "smollm2" if family == "smollm2 itself" else model_templates.MODELS[family][0]

    def test_text_ids_and_masks_of_random_chats(self):
        compared = 0
        for family, (path, tokenizer) in self.models.items():
            rng = random.Random(20)
            chats = [random_chat(rng) for _ in range(150)]
            key = "smollm2" if family == "smollm2 itself" else family
            for chat, ours in zip(chats, run_tool(path, chats), strict=True):
                with self.subTest(family=family, chat=chat):
                    self.assertEqual(ours["template"], self.name_of(family))
                    text, appended, ids, labels = expected(tokenizer, chat, key)
                    self.assertEqual(ours["text"], text)
                    self.assertEqual(ours["appended"], appended)
                    self.assertEqual(ours["ids"], ids)
                    self.assertEqual(ours["labels"], labels)
                    if chat[-1]["role"] == "user":
                        self.assertEqual(ours["prompt"], render(tokenizer, chat, generation_prompt=True))
                    compared += len(ids)
        self.assertGreater(compared, 50000)

    def test_ids_of_apply_chat_template(self):
        chat = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "\n Hello there "},
            {"role": "assistant", "content": " I am fine. "},
        ]
        for family, (path, tokenizer) in self.models.items():
            with self.subTest(family=family):
                ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
                ours = run_tool(path, [chat])[0]
                self.assertEqual(ours["ids"][: len(ids)], ids)
                self.assertLessEqual(len(ours["ids"]), len(ids) + 1)

    def trained_text(self, family, chat, **options):
        path, tokenizer = self.models[family]
        ours = run_tool(path, [chat], **options)[0]
        runs, current = [], []
        for token, label in zip(ours["ids"], ours["labels"]):
            if label != IGNORED:
                current.append(label)
            elif current:
                runs.append(tokenizer.decode(current))
                current = []
        return runs + ([tokenizer.decode(current)] if current else [])

    def test_what_is_trained_in_words(self):
        chat = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "The fox."},
            {"role": "user", "content": "More?"},
            {"role": "assistant", "content": "No."},
        ]
        for family in ("chatml", "smollm2", "qwen", "qwen2"):
            self.assertEqual(self.trained_text(family, chat), ["The fox.<|im_end|>", "No.<|im_end|>"])
        for family in ("llama3", "llama3.1"):
            self.assertEqual(self.trained_text(family, chat), ["The fox.<|eot_id|>", "No.<|eot_id|>"])
        for family in ("glm4", "glm4-chat"):
            self.assertEqual(self.trained_text(family, chat), ["\nThe fox.<|user|>", "\nNo.<|user|>"])
            ended = self.trained_text(family, chat, eot="eos")
            self.assertEqual(ended, ["\nThe fox.<|endoftext|>", "\nNo.<|endoftext|>"])
        self.assertEqual(self.trained_text("zephyr", chat), ["The fox.</s>", "No.</s>"])
        self.assertEqual(self.trained_text("llama2", chat), ["The fox. </s>", "No. </s>"])

    def test_glm4_end_of_sequence_labels(self):
        path, tokenizer = self.models["glm4"]
        rng = random.Random(21)
        chats = [random_chat(rng) for _ in range(60)]
        for chat, ours in zip(chats, run_tool(path, chats, eot="eos"), strict=True):
            with self.subTest(chat=chat):
                text, appended, ids, labels = expected(tokenizer, chat, "glm4", eot="eos")
                self.assertEqual((ours["text"], ours["appended"]), (text, appended))
                self.assertEqual(ours["ids"], ids)
                self.assertEqual(ours["labels"], labels)

    def test_loss_on_all(self):
        for family, (path, _) in self.models.items():
            rng = random.Random(22)
            for ours in run_tool(path, [random_chat(rng) for _ in range(10)], loss_on="all"):
                self.assertEqual(ours["labels"], ours["ids"], family)

    def test_turns_that_llama2_refuses(self):
        path, tokenizer = self.models["llama2"]
        refused = [
            [{"role": "assistant", "content": "Hi"}],
            [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
            [{"role": "system", "content": "s"}, {"role": "assistant", "content": "b"}],
        ]
        for chat, ours in zip(refused, run_tool(path, refused), strict=True):
            with self.assertRaises(Exception):
                render(tokenizer, chat)
            self.assertIn("error", ours)

    def test_templates_that_are_none_of_ours(self):
        chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": " <think>x</think> Hi "}]
        for reason, chat_template in list(model_templates.NEAR_MISSES.items())[:-3]:
            with self.subTest(reason=reason), tempfile.TemporaryDirectory() as folder:
                tokenizer = tiny_tokenizers.for_template("glm4", chat_template)
                tokenizer.save_pretrained(folder)
                ours = run_tool(folder, [chat])[0]
                self.assertEqual(ours["template"], "own")
                self.assertEqual(ours["text"], render(tokenizer, chat))
        for reason, chat_template in list(model_templates.NEAR_MISSES.items())[-3:]:
            with self.subTest(reason=reason), tempfile.TemporaryDirectory() as folder:
                tokenizer = tiny_tokenizers.for_template("glm4", chat_template)
                tokenizer.save_pretrained(folder)
                command = [RENDER_TOOL, folder, "auto", "user", "assistant"]
                line = json.dumps({"messages": chat}).encode()
                done = subprocess.run(command, input=line, capture_output=True, timeout=60)
                self.assertEqual(done.returncode, 65, done.stderr)
                self.assertIn(b"--template", done.stderr)
                self.assertIn(b"glm4", done.stderr)


if __name__ == "__main__":
    RENDER_TOOL = sys.argv[1]
    REAL_MODEL = sys.argv[2] if len(sys.argv) > 2 else None
    unittest.main(argv=sys.argv[:1])
