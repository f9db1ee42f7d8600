"""The output holds the chat template that it was trained with, and transformers stops where the training's samples do."""

import itertools
import json
import unittest

import end_to_end
import model_templates
import torch
from end_to_end import EndToEndTest, make_model, write_lines
from transformers import AutoModelForCausalLM, AutoTokenizer


class TemplateTest(EndToEndTest):
    def base_model(self, dtype, has_settings, own=None):
        """Without a chat template of its own (or with one that is none of ours), whose text ends with <|endoftext|>."""
        model = make_model(self.folder / self.id() / f"{dtype}-{has_settings}-{own is None}", "llama_tied", dtype)
        end = json.loads((model / "tokenizer.json").read_text())["added_tokens"]
        eos = next(token["id"] for token in end if token["content"] == "<|endoftext|>")
        for name in ("config.json", "generation_config.json"):
            path = model / name
            path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": eos}))
        settings = json.loads((model / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (model / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|endoftext|>"}))
        (model / "chat_template.jinja").unlink(missing_ok=True)
        if own is not None:
            (model / "chat_template.jinja").write_text(own)
        if not has_settings:
            (model / "generation_config.json").unlink()
        return model

    def test_stops_after_one_answer(self):
        data = write_lines(self.folder / "numbers.jsonl", [
            {"messages": [{"role": "user", "content": f"Say {i}."}, {"role": "assistant", "content": f"It is {i}."}]}
            for i in range(10)])
        for dtype, settings in itertools.product((torch.float32, torch.bfloat16), (True, False)):
            with self.subTest(dtype=dtype, settings=settings):
                model = self.base_model(dtype, settings, None if settings else "{{ messages[0]['content'] }}")
                output = self.folder / f"{self.id()}-{dtype}-{settings}-output"
                precision = "fp32" if dtype == torch.float32 else "bf16"
                ended = self.start(model, output, "--template", "chatml", "--steps", 60, "--learning-rate", "5e-3",
                                   "--precision", precision, data=data)
                self.assertEqual(ended.code, 0, ended)
                self.assertIn("chat_template.jinja: the template chatml", ended.stderr)
                tokenizer = AutoTokenizer.from_pretrained(output)
                self.assertEqual(tokenizer.eos_token, "<|im_end|>")
                trained = AutoModelForCausalLM.from_pretrained(output, dtype=dtype)
                prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Say 7."}],
                                                       add_generation_prompt=True, return_dict=True, return_tensors="pt")
                answer = trained.generate(**prompt, max_new_tokens=40, do_sample=False)[0]
                answer = tokenizer.decode(answer[prompt["input_ids"].shape[1]:])
                self.assertTrue(answer.endswith("<|im_end|>"), answer)
                self.assertEqual(answer.count("<|im_end|>"), 1, answer)

    def test_running_text_leaves_the_end_tokens_alone(self):
        """However many rows it is cut into; a chat model that is trained on chats learns to end as its template does."""
        text = write_lines(self.folder / "text.jsonl", [{"text": "It is said that tea is fine. " * 200}])
        for data, changes in ((text, False), (None, True)):
            with self.subTest(changes=changes):
                model = self.base_model(torch.float32, True, model_templates.SMOLLM2)
                ended = self.start(model, self.folder / f"{self.id()}-{changes}-output", "--steps", 1, "--sequence-length", 256,
                                   data=data)
                self.assertEqual(ended.code, 0, ended)
                self.assertEqual("generation_config.json" in ended.stderr, changes, ended)


if __name__ == "__main__":
    end_to_end.main()
