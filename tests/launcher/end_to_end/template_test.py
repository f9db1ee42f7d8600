"""The output holds the chat template that it was trained with, and transformers stops where the training's samples do.

Called with --long among the arguments it also does so with a real model, .cache/smollm2-135m-instruct.
"""

import itertools
import json
import pathlib
import random
import shutil
import subprocess
import sys
import unittest

import end_to_end
import model_templates
import template_parity_test
import tiny_tokenizers
import torch
from end_to_end import EndToEndTest, LlamaConfig, edit_json, exchange, make_model, write_lines
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

LONG = "--long" in sys.argv
QUESTION = "Say 7."

# What a template is tried on, and the token that ends its answers: a tokenizer of this shape, and the model's own end
# of sequence, which is that of a base model.
BYTES, PIECES = ("smollm2", "<|endoftext|>"), ("llama2", "</s>")
TEMPLATES = {
    "chatml": (*BYTES, "<|im_end|>"), "smollm2": (*BYTES, "<|im_end|>"), "qwen": (*BYTES, "<|im_end|>"),
    "glm4": (*BYTES, "<|user|>"), "llama3": (*BYTES, "<|eot_id|>"), "llama3.1": (*BYTES, "<|eot_id|>"),
    "llama2": (*PIECES, "</s>"), "zephyr": (*PIECES, "</s>"), "plain": (*BYTES, "<|endoftext|>"),
}
SYSTEM = {"role": "system", "content": "  Be brief.\n"}
USER = {"role": "user", "content": "\n Grüße, 世界 <b>{{ x }}</b> 'a' \\n \"b\"\t"}
ANSWER = {"role": "assistant", "content": " I am\n\n{% if %} fine. "}
CHATS = [[USER], [SYSTEM, USER], [USER, ANSWER], [SYSTEM, USER, ANSWER], [SYSTEM, USER, ANSWER, USER],
         [USER, ANSWER, USER, ANSWER, USER], [{"role": "user", "content": ""}],
         [USER, {"role": "assistant", "content": ""}]]


def without_template(folder):
    """Leaves the tokenizer of a base model: no chat template, its text ends with <|endoftext|>."""
    edit_json(folder / "tokenizer_config.json", lambda settings: settings.pop("chat_template", None),
              eos_token="<|endoftext|>")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    eos = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<|endoftext|>")
    for name in ("config.json", "generation_config.json"):
        edit_json(folder / name, eos_token_id=eos)
    return folder


class StopTest(EndToEndTest):
    def setUp(self):
        self.data = write_lines(self.folder / "numbers.jsonl",
                                [exchange(f"Say {i}.", f"It is {i}.") for i in range(10)])

    def train_to_answer(self, model, precision, *options):
        """Returns the output and what the training's last sample says."""
        output = pathlib.Path(str(model) + "-output")
        ended = self.start(model, output, "--precision", precision, "--sample", QUESTION, *options, data=self.data,
                           seconds=600, code=0)
        lines = ended.stderr.splitlines()
        place = len(lines) - 1 - lines[::-1].index(f"  > {QUESTION}")
        return output, lines[place + 1].strip(), ended.stderr

    def answer_of(self, output, dtype):
        """Ids of the greedy answer in transformers, with the token that ended it."""
        tokenizer = AutoTokenizer.from_pretrained(output)
        model = AutoModelForCausalLM.from_pretrained(output, dtype=dtype)
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": QUESTION}], add_generation_prompt=True,
                                               return_dict=True, return_tensors="pt")
        ids = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1]:].tolist()
        return tokenizer, ids

    def check(self, output, dtype, sampled):
        tokenizer, ids = self.answer_of(output, dtype)
        self.assertEqual(tokenizer.eos_token, "<|im_end|>")
        self.assertEqual(sampled, "It is 7.", "the training's own sample")
        self.assertEqual(ids, tokenizer.encode(sampled + "<|im_end|>", add_special_tokens=False))
        return ids

    def test_stops_after_one_answer(self):
        """Trained with --template on a base model: without generation settings, and without a template or with one
        that is none of ours."""
        answers = set()
        for dtype, settings in itertools.product((torch.float32, torch.bfloat16), (True, False)):
            with self.subTest(dtype=dtype, settings=settings):
                model = without_template(make_model(self.folder / f"{dtype}-{settings}", "llama_tied", dtype))
                if settings:
                    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
                else:
                    (model / "generation_config.json").unlink()
                output, sampled, said = self.train_to_answer(
                    model, "fp32" if dtype == torch.float32 else "bf16", "--template", "chatml", "--steps", 60,
                    "--learning-rate", "5e-3")
                self.assertIn("chat_template.jinja: the template chatml", said)
                answers.add(tuple(self.check(output, dtype, sampled)))
        self.assertEqual(len(answers), 1)

    def test_own_template_of_a_base_model(self):
        """It is recognized, and the token that ends its answers is one at which nothing stops yet."""
        for settings in (True, False):
            with self.subTest(settings=settings):
                model = without_template(make_model(self.folder / f"own-{settings}", "llama_tied"))
                (model / "chat_template.jinja").write_text(model_templates.CHATML)
                if not settings:
                    (model / "generation_config.json").unlink()
                for options in ((), ("--overwrite",)):
                    output, sampled, _ = self.train_to_answer(model, "fp32", "--steps", 60, "--learning-rate", "5e-3",
                                                              *options)
                    self.assertEqual(sampled, "It is 7.")
                    tokenizer, ids = self.answer_of(output, torch.float32)
                    self.assertEqual(ids, tokenizer.encode("It is 7.<|im_end|>", add_special_tokens=False))
                    self.assertLessEqual({"generation_config.json"}, set(end_to_end.read_run(output)["model_files"]))

    def test_running_text_leaves_the_end_tokens_alone(self):
        """However many rows it is cut into; a chat model that is trained on chats learns to end as its template
        does."""
        text = write_lines(self.folder / "text.jsonl", [{"text": "It is said that tea is fine. " * 200}])
        for data, changes in ((text, False), (None, True)):
            with self.subTest(changes=changes):
                model = without_template(make_model(self.folder / f"text-{changes}", "llama_tied"))
                (model / "chat_template.jinja").write_text(model_templates.SMOLLM2)
                ended = self.start(model, self.own_path(changes), "--steps", 1, "--sequence-length", 256, data=data,
                                   code=0)
                self.assertEqual("generation_config.json" in ended.stderr, changes, ended)

    @unittest.skipUnless(LONG, "takes minutes")
    def test_a_real_model(self):
        real = end_to_end.REPOSITORY / ".cache" / "smollm2-135m-instruct"
        for dtype, settings in itertools.product((torch.float32, torch.bfloat16), (True, False)):
            with self.subTest(dtype=dtype, settings=settings):
                model = self.folder / f"real-{dtype}-{settings}"
                shutil.copytree(real, model)
                without_template(model)
                if not settings:
                    (model / "generation_config.json").unlink()
                output, sampled, _ = self.train_to_answer(
                    model, "fp32" if dtype == torch.float32 else "bf16", "--template", "chatml", "--save-dtype",
                    "fp32" if dtype == torch.float32 else "bf16", "--steps", 12, "--learning-rate", "1e-4",
                    "--sequence-length", 256, "--global-batch", 1)
                self.check(output, dtype, sampled)
                shutil.rmtree(output)
                shutil.rmtree(model)


class ExportedTemplateTest(EndToEndTest):
    def base_model(self, name):
        """Of one layer, with a tokenizer of the shape that the template needs."""
        shape, eos, _ = TEMPLATES[name]
        folder = self.folder / name
        tokenizer = tiny_tokenizers.for_template(shape, None)
        sizes = {**end_to_end.SIZES, "num_hidden_layers": 1}
        model = AutoModelForCausalLM.from_config(LlamaConfig(**sizes))
        model.config.eos_token_id = tokenizer.convert_tokens_to_ids(eos)
        model.generation_config = GenerationConfig(eos_token_id=model.config.eos_token_id)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        edit_json(folder / "tokenizer_config.json", eos_token=eos)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        return folder

    def rendered(self, folder, template, chats):
        tool = pathlib.Path(self.train_program).parent / "render_tool"
        lines = "".join(json.dumps({"messages": chat}) + "\n" for chat in chats)
        done = subprocess.run([tool, folder, template, "user", "assistant"], input=lines.encode(), capture_output=True,
                              timeout=60, check=True)
        return [json.loads(line) for line in done.stdout.decode().split("\n") if line]

    def check_template(self, name):
        model, output = self.base_model(name), self.folder / (name + "-output")
        self.train(model, output, "--template", name, "--steps", 1)
        tokenizer = AutoTokenizer.from_pretrained(output)
        generator = random.Random(31)
        # plain ends no answer a second time that ends already, which a template cannot know.
        chats = CHATS + [template_parity_test.random_chat(generator) for _ in range(0 if name == "plain" else 60)]
        rendered = self.rendered(model, name, chats), self.rendered(output, "auto", chats)
        for chat, ours, of_output in zip(chats, *rendered, strict=True):
            with self.subTest(template=name, chat=chat):
                self.assertEqual(of_output["template"], name)
                self.assertEqual(of_output["ids"], ours["ids"])
                theirs = tokenizer.apply_chat_template(chat, tokenize=False)
                self.assertEqual(theirs, ours["text"])
                if chat[-1]["role"] == "user":
                    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
                    self.assertEqual(prompt, ours["prompt"])
                elif name != "plain":
                    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
                    self.assertEqual(ids, ours["ids"][:len(ids)])
        with self.assertRaisesRegex(Exception, "turns of system, user and assistant only"):
            tokenizer.apply_chat_template([{"role": "tool", "content": "4"}], tokenize=False)
        self.check_ends(name, output, tokenizer)

    def check_ends(self, name, output, tokenizer):
        _, eos, end = TEMPLATES[name]
        stops = GenerationConfig.from_pretrained(output).eos_token_id
        stops = stops if isinstance(stops, list) else [stops]
        self.assertEqual(stops[0], tokenizer.convert_tokens_to_ids(end))
        wanted = {end, eos} | ({"<|observation|>"} if name == "glm4" else set())
        self.assertEqual(set(stops), {tokenizer.convert_tokens_to_ids(token) for token in wanted})
        self.assertEqual(json.loads((output / "config.json").read_text())["eos_token_id"],
                         stops if len(stops) > 1 else stops[0])
        # glm4's answers end with the token that opens a user's turn, which ends no text.
        self.assertEqual(tokenizer.eos_token, eos if name == "glm4" else end)

    def test_every_template(self):
        for name in TEMPLATES:
            with self.subTest(template=name):
                self.check_template(name)

    def test_there_is_no_other_template(self):
        ended = self.start(self.base_model("chatml"), self.folder / "none", "--template", "nothing")
        named = ended.stderr.split("one of ")[1].split(", not")[0]
        self.assertEqual(set(named.split(", ")), set(TEMPLATES))


if __name__ == "__main__":
    if LONG:
        sys.argv.remove("--long")
    end_to_end.main()
