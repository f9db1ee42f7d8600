"""Reads generated samples with the program and with a reference written from docs/data.md, and compares.

    sample_reader_fuzz.py SAMPLE_READER_TOOL [--samples N] [--seed SEED] [--program AUTOGLM_DATA --model DIRECTORY]

N samples with some changes at random, and every field with every odd value.
Turns, what is trained of them, reasoning, unread fields and refusals must be the same. With --program some of the samples are
also read from files: JSON lines and arrays must give the same tokens, and a refusal must name the line.
"""

import argparse
import collections
import copy
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import sample_reader_reference as reference

PAGE = pathlib.Path(__file__).resolve().parents[3] / "docs" / "data.md"
TEXTS = ["Hi", "Wie geht's?", "ciao\n", " ", "", "数", "a\tb", "[]", "null", "<|im_end|>", "\U0001f600", "x" * 50]
ODD = [None, False, True, 0, 1, 0.0, 1.0, -0.0, 0.3, 2, -1, 10**18, "", " ", "x", "0", "false", "[]", " [ ] ", "{}", "null",
       "y" * 45, [], [None], [None, None], [1], [0, 1], ["x"], {}, {"a": None}, {"a": {"b": None}}, {"a": [None]}, {"a": 1}, [{}]]
MARKS = [None, 0, 1, 0.0, 1.0, True, False]
UNKNOWN = {"sample": ["mood", "source", "score", "Weight", "messages ", "user", "é", "", "role", "content", "training_detail"],
           "turn": ["mood", "name", "weights", "text", "Role", "", "input"],
           "part": ["mood", "cache_control", "annotations", ""]}
USERS, ANSWERERS = ["user", "user", "human"], ["assistant", "assistant", "gpt", "chatgpt", "model", "bot"]
OTHER_ROLES = ["system", "tool", "function", "observation", "function_call", "ipython", "User", "developer", "boss", "", None, 3,
               ["user"], "assistant", "human"]


class Generator:
    def __init__(self, seed, table):
        self.random = random.Random(seed)
        self.fields = {place: [name for of, name in table if of == place] + UNKNOWN[place] for place in UNKNOWN}

    def pick(self, values):
        return copy.deepcopy(self.random.choice(values))

    def chance(self, of_all):
        return self.random.random() < of_all

    # samples that are as they should be

    def text(self):
        return self.pick(TEXTS)

    def part(self):
        return self.pick([{"type": "text", "text": self.text()}, {"text": self.text()}, self.text(),
                          {"type": None, "text": self.text(), "image_url": None}])

    def content(self):
        return [self.part() for _ in range(self.random.randrange(4))] if self.chance(0.1) else self.text()

    def turn(self, role, spelling=None):
        role_name, content_name = spelling or self.pick([("role", "content"), ("from", "value")])
        names = {"user": USERS, "assistant": ANSWERERS, "system": ["system"]}
        return {role_name: self.pick(names[role]), content_name: self.content()}

    def turns(self, first="user", most=5):
        spelling = self.pick([("role", "content"), ("from", "value"), None])
        others = {"user": "assistant", "assistant": "user"}
        roles = [first]
        for _ in range(self.random.randrange(most)):
            roles.append(others[roles[-1]])
        if self.chance(0.2):
            roles.insert(0, "system")
        return [self.turn(role, spelling) for role in roles]

    def plain_sample(self):
        form = self.pick(["messages", "conversations", "alpaca", "completion", "turns", "text"])
        if form in ("messages", "conversations"):
            return {form: self.turns()}
        if form == "alpaca":
            sample = {"instruction": self.text(), "output": self.text()}
            if self.chance(0.5):
                sample["input"] = self.text()
            if self.chance(0.3):
                sample["history"] = [[self.text(), self.text()] for _ in range(self.random.randrange(3))]
            return sample
        if form == "completion":
            return {"prompt": self.text(), "completion": self.text()}
        if form == "text":
            return {"text": self.text()}
        completion = [turn for turn in self.turns("assistant", 3) if "system" not in turn.values()]
        return {"prompt": self.pick([self.turns(), self.text()]), "completion": self.pick([completion, self.text()])}

    # changes that may make them something else

    def lists_of_turns(self, sample):
        return [(name, sample[name]) for name in ("messages", "conversations", "prompt", "completion")
                if isinstance(sample.get(name), list) and sample[name]]

    def some_turn(self, sample):
        lists = self.lists_of_turns(sample)
        turns = [turn for _, turns in lists for turn in turns if isinstance(turn, dict)]
        return self.random.choice(turns) if turns else None

    def value_for(self, name):
        if name in reference.MASKS and self.chance(0.8):
            return self.pick(MARKS)
        if name in (*reference.REASONING, "system", "system_prompt") and self.chance(0.7):
            return self.pick(["think", "think", "other", "", None])
        return self.pick(ODD)

    def add_sample_field(self, sample):
        name = self.pick(self.fields["sample"])
        if name not in sample or self.chance(0.2):
            sample[name] = self.value_for(name)

    def add_turn_field(self, sample):
        turn = self.some_turn(sample)
        if turn is not None:
            name = self.pick(self.fields["turn"])
            if name not in turn or self.chance(0.2):
                turn[name] = self.value_for(name)

    def add_mark(self, sample):
        thing = self.pick_thing(sample)
        thing[self.pick(list(reference.MASKS))] = self.pick(MARKS)

    def add_reasoning(self, sample):
        thing = self.pick_thing(sample)
        thing[self.pick(list(reference.REASONING))] = self.pick(["think", "think", "other", "", " [] ", None, False, 5])

    def pick_thing(self, sample):
        turn = self.some_turn(sample)
        return sample if turn is None or self.chance(0.3) else turn

    def add_mask_list(self, sample):
        count = sum(len(turns) for _, turns in self.lists_of_turns(sample)) or 2
        count += 2 * len(sample["history"]) if isinstance(sample.get("history"), list) else 0
        count = max(0, count + self.pick([0, 0, 0, 0, 1, -1]))
        marks = MARKS if self.chance(0.9) else MARKS + [2, "x", [], 0.5]
        sample[self.pick(list(reference.MASKS))] = [self.pick(marks) for _ in range(count)]

    def add_system(self, sample):
        sample[self.pick(["system", "system_prompt"])] = self.pick(["s", "s", "s", "t", "", None, [], 0])

    def add_part_field(self, sample):
        turn = self.some_turn(sample)
        if turn is None:
            return
        name = "value" if "value" in turn else "content"
        part = self.part()
        if isinstance(part, dict):
            field = self.pick(self.fields["part"])
            part[field] = self.value_for(field)
        else:
            part = self.pick(ODD)
        turn[name] = [self.part(), part]

    def change_role(self, sample):
        turn = self.some_turn(sample)
        if turn is not None:
            turn["from" if "from" in turn else "role"] = self.pick(OTHER_ROLES)

    def change_value(self, sample):
        thing = self.pick_thing(sample)
        if thing:
            thing[self.pick(list(thing))] = self.pick(ODD)

    def remove_field(self, sample):
        thing = self.pick_thing(sample)
        if thing:
            del thing[self.pick(list(thing))]

    def add_other_form(self, sample):
        """As in a file that was put together from several."""
        for name, value in self.plain_sample().items():
            sample.setdefault(name, self.pick([None, None, None, "", [], value]))

    def add_other_spelling(self, sample):
        turn = self.some_turn(sample)
        if turn is None:
            return
        for one, other in zip(("role", "content"), ("from", "value")):
            if one not in turn:
                one, other = other, one
            if one in turn:
                turn[other] = self.pick([copy.deepcopy(turn[one]), copy.deepcopy(turn[one]), None, "x", "user"])
        if self.chance(0.5):
            turn[self.pick(["role", "content", "from", "value"])] = None

    def move_turn(self, sample):
        lists = self.lists_of_turns(sample)
        if lists:
            _, turns = self.random.choice(lists)
            turns.insert(self.random.randrange(len(turns) + 1), self.pick([self.turn("system"), self.turn("user"), *ODD]))

    def change_history(self, sample):
        if "instruction" in sample:
            sample["history"] = self.pick([*ODD, [["q", "a"], self.pick(ODD)], [["q", self.pick(ODD)]], [["q", "a", "b"]]])

    def unpack(self, sample):
        """A turn, or a list of turns, without a sample around it."""
        lists = self.lists_of_turns(sample)
        return self.random.choice(lists)[1] if lists and self.chance(0.5) else self.pick([self.turn("user"), *ODD])

    def sweep(self):
        """Every field with every value, each in a sample that is as it should be otherwise."""
        for place, names in self.fields.items():
            for name in sorted(set(names)):
                for value in ODD:
                    sample, thing = {}, None
                    while thing is None:
                        sample = self.plain_sample()
                        thing = sample if place == "sample" else self.some_turn(sample)
                    if place == "part":
                        part = {"type": "text", "text": "x"}
                        thing["value" if "value" in thing else "content"] = [self.part(), part]
                        thing = part
                    thing[name] = copy.deepcopy(value)
                    yield sample

    def sample(self):
        sample = self.plain_sample()
        changes = [self.add_sample_field, self.add_turn_field, self.add_mark, self.add_mark, self.add_reasoning, self.add_mask_list,
                   self.add_system, self.add_part_field, self.change_role, self.change_value, self.remove_field,
                   self.add_other_form, self.add_other_form, self.add_other_spelling, self.move_turn, self.change_history]
        for _ in range(self.pick([0, 1, 1, 1, 1, 2, 2, 2, 3, 5])):
            self.random.choice(changes)(sample)
        return self.unpack(sample) if self.chance(0.01) else sample


def difference(sample, ours, table):
    """What the program made of the sample that it should not, or None."""
    read = reference.Reading(sample, table)
    if "broken" in ours:
        return f"not taken for JSON: {ours['broken']}"
    if "refused" in ours or read.problems:
        said = ours.get("refused")
        return None if said in read.problems else f"refused for {said!r}, not one of {sorted(read.problems)}"
    turns = [(turn["role"], turn["content"], turn["trained"], turn["reasoning"]) for turn in ours["turns"]]
    wanted = [(turn.role, turn.content, turn.under(read.out), turn.reasoning) for turn in read.turns]
    if (ours["form"], turns) != (read.form, wanted):
        return f"read as {ours['form']} {turns}, not as {read.form} {wanted}"
    for turn, other in zip(ours["turns"], read.turns):
        if turn["wants_training"] not in (other.complaints() or {""}):
            return f"{other.where} wants training: {turn['wants_training']!r}, not {other.complaints()}"
    unread = {tuple(field) for field in ours["unread"]}
    return None if unread == read.unread else f"unread {sorted(unread)}, not {sorted(read.unread)}"


def read_with(tool, samples):
    lines = "".join(json.dumps(sample, ensure_ascii=number % 2 == 0) + "\n" for number, sample in enumerate(samples))
    done = subprocess.run([tool], input=lines, stdout=subprocess.PIPE, encoding="utf-8", timeout=600, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(samples), f"{len(results)} results of {len(samples)} samples"
    return results


def compare(tool, samples, table):
    """The number of samples that are read otherwise; says what the first ones of them are."""
    results = read_with(tool, samples)
    wrong = [(sample, said) for sample, ours in zip(samples, results) if (said := difference(sample, ours, table))]
    for sample, said in wrong[:20]:
        print(f"{json.dumps(sample, ensure_ascii=False)}\n    {said}")
    refused = sum("refused" in ours for ours in results)
    print(f"{len(samples)} samples, {refused} of them refused, {len(wrong)} read otherwise")
    # So that a generator that makes nothing of interest is seen.
    forms = collections.Counter(ours["form"] for ours in results if "form" in ours)
    assert len(samples) < 1000 or min(refused, len(samples) - refused, *forms.values()) > len(samples) / 50, (refused, forms)
    return len(wrong)


def is_tame(result):
    """Whether every template would render it: nothing but the reader has a say."""
    return "turns" in result and not any(turn["reasoning"] or turn["wants_training"] for turn in result["turns"])


class Files:
    """The same samples in files, read by the command."""

    def __init__(self, program, model, folder, generator):
        self.command = [program, "--model", model, "--json", "--data"]
        self.folder, self.random = pathlib.Path(folder), generator.random

    def run(self, name, text):
        path = self.folder / name
        path.write_bytes(text.encode())
        return path, subprocess.run([*self.command, path], capture_output=True, encoding="utf-8", timeout=100)

    def dump(self, sample):
        return json.dumps(sample, ensure_ascii=self.random.random() < 0.5)

    def as_lines(self, samples):
        """The text, and the line of each sample; lines may be blank, and end as on Windows."""
        text, lines = "", []
        for sample in samples:
            text += self.random.choice(["", "", "", "\n", " \t\r\n"])
            lines.append(text.count("\n") + 1)
            text += self.dump(sample) + self.random.choice(["\n", "\r\n", " \n"])
        return text, lines

    def as_array(self, samples):
        text, lines = self.random.choice(["[", "\n [", "[\r\n"]), []
        for number, sample in enumerate(samples):
            text += self.random.choice(["", "\n", "\n\n  "])
            lines.append(text.count("\n") + 1)
            text += json.dumps(sample, indent=self.random.choice([None, 1]))
            text += self.random.choice(["", "\n "]) + ("," if number + 1 < len(samples) else "]")
        return text + self.random.choice(["", "\n"]), lines

    def compare(self, samples):
        """Lines and array must give the same tokens."""
        done = [self.run(name, write(samples)[0])[1] for name, write in (("a.jsonl", self.as_lines), ("a.json", self.as_array))]
        if done[0].returncode or done[0].stdout != done[1].stdout or not done[0].stdout:
            print(f"lines and array of the same samples differ: {done[0].stderr}{done[1].stderr}")
            return 1
        return 0

    def compare_refusal(self, good, bad, sentence):
        """The bad sample between good ones must be named by its line, and in an array by its number."""
        at = self.random.randrange(len(good) + 1)
        samples = good[:at] + [bad] + good[at:]
        wrong = 0
        for name, write in (("r.jsonl", self.as_lines), ("r.json", self.as_array)):
            text, lines = write(samples)
            path, done = self.run(name, text)
            place = f"{path}:{lines[at]}" + (f" (sample {at + 1})" if name == "r.json" else "")
            if done.returncode != 65 or not done.stderr.endswith(f"{place}: {sentence}\n"):
                print(f"{self.dump(bad)}\n    {done.returncode}, {done.stderr!r}, not {place}: {sentence}")
                wrong += 1
        return wrong


def compare_files(arguments, samples, generator):
    results = read_with(arguments.tool, samples[:600])
    good = [sample for sample, result in zip(samples, results) if is_tame(result)]
    bad = [(sample, result["refused"]) for sample, result in zip(samples, results) if "refused" in result]
    with tempfile.TemporaryDirectory() as folder:
        files = Files(arguments.program, arguments.model, folder, generator)
        wrong = files.compare(good)
        # One for each sentence, their numbers apart.
        kinds = {re.sub(r"\d+", "", sentence): (sample, sentence) for sample, sentence in bad}
        for sample, sentence in list(kinds.values())[:20]:
            wrong += files.compare_refusal(generator.random.sample(good, 4), sample, sentence)
    print(f"in files: {len(good)} samples read, {min(20, len(kinds))} refused, {wrong} otherwise")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program")
    parser.add_argument("--model")
    arguments = parser.parse_args()
    table = reference.read_table(PAGE.read_text(encoding="utf-8"))
    assert len(table) > 80, "docs/data.md holds no table of fields"
    generator = Generator(arguments.seed, table)
    samples = [generator.sample() for _ in range(arguments.samples)] + list(generator.sweep())
    wrong = compare(arguments.tool, samples, table)
    if arguments.program and pathlib.Path(arguments.model, "tokenizer.json").exists():
        wrong += compare_files(arguments, samples, generator)
    return min(1, wrong)


if __name__ == "__main__":
    sys.exit(main())
