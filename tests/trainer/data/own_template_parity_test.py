"""Chats in the model's own template, when it is none of the built-in ones, against transformers.

    own_template_parity_test.py RENDER_TOOL

Text and ids are those of apply_chat_template. The mask is that of return_assistant_tokens_mask, with templates in
which {% generation %} says what is to be trained; ours sees them without these tags, and with them.
"""

import json
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from transformers import PreTrainedTokenizerFast

import own_templates
import tiny_tokenizers

RENDER_TOOL = None
IGNORED = -100
BEGIN, END = "\uf8f0", "\uf8f1"  # stand for the tags where their places in the text are needed
PIECES = [
    "Hello", " world", "\n", "\n\n", " ", "  ", "\t", "世界", "Grüße", "！", "👩‍👩‍👧", "e\u0301", "\u00a0", "\u3000",
    "123456", "<think>x</think>",
    "</think>", "[INST]", "{{ messages }}", "\\n", '"', "<|im_end|>", "<|user|>", "</s>", "<|assistant|>\n",
    "<|im_start|>assistant\n",
    " ASSISTANT:", "a" * 30, "\r\n", "\ue010",
]


def random_content(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 1, 2, 3, 6])))


def random_chat(rng, template):
    messages = []
    if template.system and rng.random() < 0.5:
        messages.append({"role": "system", "content": "Be " + random_content(rng)})
    for turn in range(rng.randint(1, 7)):
        messages.append({"role": "assistant" if turn % 2 else "user", "content": random_content(rng)})
    if template.reasoning and messages[-1]["role"] == "assistant" and rng.random() < 0.5:
        messages[-1][template.reasoning] = rng.choice(["Hm", "\nFirst,\nthen 世界\n", " so "])
    return messages


def tokenizer_of(template, source):
    backend = tiny_tokenizers.byte_fallback() if template.fallback else tiny_tokenizers.byte_level()
    backend.add_special_tokens([tiny_tokenizers.special(token) for token in template.specials])
    names = {"eos_token": template.eos, **({"bos_token": template.bos} if template.bos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=source, **names)


def render(tokenizer, chat, **options):
    return tokenizer.apply_chat_template(chat, tokenize=False, **options)


def run_tool(model, samples, eot="user", loss_on="assistant"):
    lines = "".join(json.dumps(sample) + "\n" for sample in samples)
    command = [RENDER_TOOL, model, "auto", eot, loss_on]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


class OwnTemplateParity(unittest.TestCase):
    maxDiff = 3000

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.models = {}
        for name, template in own_templates.TEMPLATES.items():
            for kind, source in (("plain", template.plain), ("tagged", template.source)):
                path = Path(cls.folder.name) / name / kind
                tokenizer = tokenizer_of(template, source)
                tokenizer.save_pretrained(path)
                cls.models[name, kind] = (str(path), tokenizer)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expected_labels(self, name, chat, text, appended):
        """Ids, and labels by the mask of transformers."""
        template = own_templates.TEMPLATES[name]
        tokenizer = self.models[name, "tagged"][1]
        wanted = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
        encoding = tokenizer(text + appended, add_special_tokens=False, return_offsets_mapping=True)
        ids, mask = encoding["input_ids"], wanted["assistant_masks"]
        self.assertEqual(ids[: len(wanted["input_ids"])], wanted["input_ids"])
        mask = mask + [0] * (len(ids) - len(mask))
        # Of a last character that is several tokens, transformers counts the first alone.
        places = encoding["offset_mapping"]
        for i in range(1, len(ids)):
            mask[i] |= mask[i - 1] and places[i] == places[i - 1]
        # A token that begins before what the model writes is not counted to it here.
        with_marks = template.source.replace(own_templates.GEN, BEGIN).replace(own_templates.END, END)
        marked = render(tokenizer, chat, chat_template=with_marks)
        begins, at = set(), 0
        for character in marked:
            if character == BEGIN:
                begins.add(at)
            at += character not in (BEGIN, END)
        labels = []
        for index, (begin, end) in enumerate(places):
            straddles = any(begin < place < end for place in begins) and not (index and mask[index - 1])
            labels.append(ids[index] if mask[index] and not straddles else IGNORED)
        return ids, labels

    def test_text_ids_and_masks_of_random_chats(self):
        compared = exact = 0
        for (name, kind), (path, tokenizer) in self.models.items():
            template = own_templates.TEMPLATES[name]
            rng = random.Random(20)
            chats = [random_chat(rng, template) for _ in range(80 if kind == "plain" else 20)]
            for chat, ours in zip(chats, run_tool(path, [{"messages": chat} for chat in chats]), strict=True):
                with self.subTest(name=name, kind=kind, chat=chat):
                    self.assertEqual(ours.get("error"), None)
                    self.assertEqual(ours["template"], "own")
                    text = render(tokenizer, chat)
                    self.assertEqual(ours["text"], text)
                    ids, labels = self.expected_labels(name, chat, text, ours["appended"])
                    self.assertEqual(ours["ids"], ids)
                    if template.next_turn_ends and kind == "plain":
                        end = tokenizer.convert_tokens_to_ids(template.next_turn_ends)
                        for i in range(1, len(ids)):
                            if ids[i] == end and labels[i - 1] != IGNORED and labels[i] == IGNORED:
                                labels[i] = end
                        appended = template.next_turn_ends if chat[-1]["role"] == "assistant" else ""
                        self.assertEqual(ours["appended"], appended)
                    else:
                        self.assertEqual(ours["appended"], "")
                    self.assertEqual(ours["labels"], labels)
                    if chat[-1]["role"] == "user":
                        self.assertEqual(ours["prompt"], render(tokenizer, chat, add_generation_prompt=True))
                    compared += len(ids)
        self.assertGreater(compared, 50000)

    def test_loss_on_all(self):
        for name, template in own_templates.TEMPLATES.items():
            rng = random.Random(22)
            chats = [{"messages": random_chat(rng, template)} for _ in range(5)]
            for ours in run_tool(self.models[name, "plain"][0], chats, loss_on="all"):
                self.assertEqual(ours["labels"], ours["ids"], name)

    def trained_text(self, name, sample, kind="plain", **options):
        path, tokenizer = self.models[name, kind]
        ours = run_tool(path, [sample], **options)[0]
        self.assertNotIn("error", ours)
        return tokenizer.decode([label for label in ours["labels"] if label != IGNORED])

    def test_turns_that_are_marked(self):
        chat = [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "The fox.", "train": False},
            {"role": "user", "content": "More?"},
            {"role": "assistant", "content": "No."},
        ]
        for name, template in own_templates.TEMPLATES.items():
            with self.subTest(name=name):
                end = template.next_turn_ends or {"gemma": "<end_of_turn>", "gemma3": "<end_of_turn>",
                                                  "phi3": "<|end|>", "llama3 with a date": "<|eot_id|>",
                                                  "cohere": "<|END_OF_TURN_TOKEN|>"}.get(name, template.eos)
                before = "<think>\n\n</think>\n\n" if template.reasoning else ""
                trained = self.trained_text(name, {"messages": chat})
                self.assertEqual(trained.strip(), before + "No." + end)
                if not template.next_turn_ends:
                    tagged = self.trained_text(name, {"messages": chat}, kind="tagged")
                    self.assertEqual(tagged, trained)
                whole = self.trained_text(name, {"messages": chat}, loss_on="all")
                self.assertNotIn("The fox.", whole)
                self.assertIn("Hello", whole)
                self.assertIn("More?", whole)

    def test_reasoning(self):
        answer = {"role": "assistant", "content": "A"}
        question = {"role": "user", "content": "Q"}
        for field in ("reasoning_content", "reasoning", "thinking"):
            thought = {**answer, field: "Hm."}
            self.assertEqual(self.trained_text("qwen3", {"messages": [question, thought]}),
                             "<think>\nHm.\n</think>\n\nA<|im_end|>")
            path = self.models["qwen3", "plain"][0]
            ours = run_tool(path, [{"messages": [question, thought, question, answer]}])[0]
            self.assertIn(f'leaves out "{field}" of turn 2', ours["error"])
            ours = run_tool(self.models["hermes", "plain"][0], [{"messages": [question, thought]}])[0]
            self.assertIn(f'chat template has no place for "{field}" of turn 2', ours["error"])

    def test_what_a_template_refuses(self):
        question, answer = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
        refused = {
            "gemma": ([{"role": "system", "content": "S"}, question, answer],
                      "refuses it: no place for a system turn"),
            "mistral": ([question, question, answer], "refuses it: user and assistant must alternate"),
        }
        for name, (chat, words) in refused.items():
            path, tokenizer = self.models[name, "plain"]
            with self.assertRaises(Exception):
                render(tokenizer, chat)
            self.assertIn(words, run_tool(path, [{"messages": chat}])[0]["error"])

    def test_glm_ends_in_eos(self):
        path, tokenizer = self.models["glm z1", "plain"]
        chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}] * 2
        ours = run_tool(path, [{"messages": chat}], eot="eos")[0]
        labels = [label for label in ours["labels"] if label != IGNORED]
        self.assertEqual(tokenizer.decode(labels), "\nA<|endoftext|>\nA<|endoftext|>")

    def test_templates_that_cannot_be_used(self):
        plain = own_templates.HERMES.plain
        cases = {
            "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}":
                b"nothing ends its answers: behind one it writes",
            "{% for m in messages %}{{ m.content }": b"is not closed",
            plain.replace("message['content']", "message['content'] | forceescape"):
                b"the filter 'forceescape' is not supported",
            "{{ messages[0].content }}": b"it leaves the answer out",
            "{{ raise_exception('never') }}": b"never",
        }
        for source, words in cases.items():
            with self.subTest(source=source), tempfile.TemporaryDirectory() as folder:
                tokenizer_of(own_templates.HERMES, source).save_pretrained(folder)
                line = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
                done = subprocess.run([RENDER_TOOL, folder, "auto", "user", "assistant"], input=line,
                                      capture_output=True, timeout=60)
                self.assertEqual(done.returncode, 65, done.stderr)
                self.assertIn(words, done.stderr)
                self.assertIn(b"name the one to use with --template (chatml", done.stderr)


if __name__ == "__main__":
    RENDER_TOOL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
