"""Training with a chat template that is none of the built-in ones: what is trained, reported and written."""

import json

import end_to_end
import own_templates
from end_to_end import BAD_DATA, EndToEndTest, edit_json, exchange, make_model, read_run, write_lines
from transformers import AutoTokenizer


class OwnTemplateTest(EndToEndTest):
    def model(self, template, **settings):
        model = make_model(self.folder / self.id())
        (model / "chat_template.jinja").write_text(template)
        edit_json(model / "tokenizer_config.json", **settings)
        return model

    def test_is_trained_and_kept(self):
        model = self.model(own_templates.HERMES.plain, bos_token="<|begin_of_text|>")
        output = self.folder / "output"
        ended = self.start(model, output, "--steps", 2, "--sample", "Say 7.", "--validation", 0.1, code=0)
        self.assertIn("template own, loss on assistant turns", ended.stdout + ended.stderr)
        self.assertIn("> Say 7.", ended.stdout + ended.stderr)
        self.assertEqual((output / "chat_template.jinja").read_bytes(), (model / "chat_template.jinja").read_bytes())
        self.assertEqual(read_run(output)["options"]["template"], "auto")

        shown = self.run_command([self.data_program, "--model", output, "--data", self.training, "--json"], 0)
        tokenizer = AutoTokenizer.from_pretrained(output)
        tagged = own_templates.HERMES.source
        for line, sample in zip(shown.stdout.splitlines(), self.training.read_text().splitlines(), strict=True):
            ours = json.loads(line)
            wanted = tokenizer.apply_chat_template(json.loads(sample)["messages"], chat_template=tagged,
                                                   return_dict=True, return_assistant_tokens_mask=True)
            self.assertEqual(ours["ids"], wanted["input_ids"])
            self.assertEqual([label != -100 for label in ours["labels"]],
                             [bool(mask) for mask in wanted["assistant_masks"]])

    def test_what_is_odd_is_said(self):
        model = self.model(own_templates.R1_DISTILL.plain, bos_token="<|begin_of_text|>")
        data = write_lines(self.folder / "thoughts.jsonl",
                           [exchange(f"Say {i}.", f"<think>hm</think>{i}") for i in range(4)])
        shown = self.run_command([self.data_program, "--model", model, "--data", data], 0)
        for words in ("that does not begin as the template prompts for one",
                      "of which the template leaves out or rewrites a part"):
            self.assertIn(f"4 with an answer {words}; the first is", shown.stdout)

    def test_refusals(self):
        model = self.model(own_templates.MISTRAL.plain)
        question, answer = exchange("Q", "A")["messages"]
        data = write_lines(self.folder / "twice.jsonl", [{"messages": [question, question, answer]}])
        ended = self.start(model, self.folder / "refused", data=data, code=BAD_DATA)
        self.assertIn("twice.jsonl:1", ended.stderr)
        self.assertIn("the model's own chat template refuses it: user and assistant must alternate", ended.stderr)
        (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
        ended = self.start(model, self.folder / "refused", code=BAD_DATA)
        self.assertIn("nothing ends its answers", ended.stderr)
        self.assertIn("name the one to use with --template", ended.stderr)


if __name__ == "__main__":
    end_to_end.main()
