"""What a sample means by docs/data.md, written from that page: which turns, trained under what, or why it is refused.

Unlike the program, which stops at the first thing that is wrong, this goes on and gives every sentence that would be right.
"""

import itertools
import json
import re

MASKS = ("weight", "train", "training", "trainable", "loss", "loss_mask", "loss_weight")
FACTORS = ("weight", "loss_weight")  # a factor of 1 asks for nothing
REASONING = ("reasoning_content", "reasoning", "thinking")
ROLES = {"system": "system", "user": "user", "human": "user"} | dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"),
                                                                             "assistant")
TOOL_ROLES = ("tool", "function", "observation", "function_call", "ipython")
# In the order in which they are looked for: the fields that must be there, and the ones of which one must be filled.
FORMS = {
    "messages": (["messages"], ["messages"]),
    "conversations": (["conversations"], ["conversations"]),
    "alpaca": (["instruction"], ["instruction", "input", "output"]),
    "prompt/completion": (["prompt", "completion"], ["prompt", "completion"]),
    "text": (["text"], ["text"]),
}
SPELLINGS = (("from", "value"), ("role", "content"))


def read_table(page):
    """{(place, field): [(forms or None for every one, use, words)]} of the table in docs/data.md."""
    table = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or cells[0] not in ("sample", "turn", "part"):
            continue
        forms = None if cells[2] in ("", "every") else cells[2].split(", ")
        for field in re.findall(r"`([^`]+)`", cells[1]):
            table.setdefault((cells[0], field), []).append((forms, cells[3], cells[4]))
    return table


def type_of(value):
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", list: "array", dict: "object"}.get(type(value), "number")


def says_nothing(value):
    if isinstance(value, dict):
        return all(map(says_nothing, value.values()))
    if isinstance(value, list):
        return all(one is None for one in value)
    return value is None or isinstance(value, str) and re.sub(r"[ \t\r\n]", "", value) in ("", "[]", "{}", "null")


def is_there(thing, name):
    return thing.get(name) is not None


def is_filled(thing, name):
    return is_there(thing, name) and thing[name] not in ("", [], {})


def is_turn(value):
    return isinstance(value, dict) and any(role in value and content in value for role, content in SPELLINGS)


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return type_of(value) if isinstance(value, (list, dict)) or len(text.encode()) > 40 else text


class Turn:
    def __init__(self, where, role, content, in_prompt=False):
        self.where, self.role, self.content, self.in_prompt = where, role, content, in_prompt
        self.reasoning = ""
        self.marks = []  # (field, where it stands, whether it is to be trained)

    def under(self, sample_is_out):
        said = {trained for _, _, trained in self.marks}
        if sample_is_out or False in said:
            return "never"
        return "always" if self.role == "assistant" and (not self.in_prompt or True in said) else "all"

    def complaints(self):
        """What is said of a turn of somebody else that is to be trained; of several fields any may be named."""
        return {f'{self.where} is of the {self.role} and "{field}" wants it trained, but under --loss-on assistant only assistant '
                "turns are; take that away, or train all turns with --loss-on all"
                for field, _, trained in self.marks if trained and self.role != "assistant"}


class Reading:
    """Of one sample: its `problems`, each a sentence, or if there are none its `form`, `turns` and `unread` fields."""

    def __init__(self, sample, table):
        self.table, self.problems, self.unread, self.turns = table, set(), set(), []
        self.out = False
        if not isinstance(sample, dict):
            return self.refuse_value(sample)
        there = [form for form, (needed, _) in FORMS.items() if all(is_there(sample, name) for name in needed)]
        filled = [form for form in there if any(is_filled(sample, name) for name in FORMS[form][1])]
        self.name = (filled or there or [None])[0]
        self.check_fields(sample, "sample", "it")
        if self.name is None:
            return self.refuse_value(sample)
        self.form = {"prompt/completion": "completion", "text": "text"}.get(self.name, "chat")
        if self.name != "text":
            self.add_system(sample)
        self.system_apart = len(self.turns) == 1
        {"alpaca": self.read_alpaca, "prompt/completion": self.read_completion, "text": self.read_text}.get(
            self.name, lambda sample: self.add_turns(sample, self.name))(sample)
        self.read_masks(sample)

    def refuse(self, sentence):
        self.problems.add(sentence)

    def refuse_value(self, value):
        way_out = 'put the list of turns of each sample into an object: {"messages": [...]}'
        if is_turn(value):
            self.refuse(f"it is a turn, not a sample; {way_out}")
        elif isinstance(value, list) and value and is_turn(value[0]):
            self.refuse(f"a sample must be a JSON object, not a list of turns; {way_out}")
        elif not isinstance(value, dict):
            self.refuse(f"a sample must be a JSON object, not {type_of(value)}")
        else:
            self.refuse('it has none of the fields that tell its form: "messages", "conversations", "instruction", '
                        '"prompt" with "completion", or "text"')

    def check_fields(self, thing, place, where):
        for name, value in thing.items():
            rules = [(use, words) for forms, use, words in self.table.get((place, name), [])
                     if forms is None or self.name in forms]
            use, words = rules[0] if rules else ("unknown", "")
            refused_for = {"refused": not says_nothing(value) and value is not False,
                           "refused where it is false": value is False,
                           "refused whatever it holds": value is not None}
            if refused_for.get(use):
                held = f": {json.dumps(value)}" if isinstance(value, bool) else ""
                self.refuse(f'{where} has "{name}"{held}; {words}')
            elif not says_nothing(value) and (use == "unknown" or use in refused_for and not isinstance(value, bool)):
                self.unread.add((place, name))

    def text(self, value, what):
        if isinstance(value, str):
            return value
        self.refuse(f"{what} must be a string, not {type_of(value)}")
        return ""

    def text_in(self, thing, name, where):
        if name not in thing:
            self.refuse(f'{where} has no "{name}"')
            return ""
        return thing[name]

    # turns

    def add_system(self, sample):
        texts = [self.text(sample[name], f'"{name}"') for name in ("system", "system_prompt") if is_filled(sample, name)]
        if len(set(texts)) == 2:
            self.refuse('it has both "system" and "system_prompt", and they differ; keep one')
        if texts:
            self.turns.append(Turn("the system turn", "system", texts[0]))

    def add_turns(self, sample, name, in_prompt=False):
        turns = sample[name]
        if not isinstance(turns, list):
            return self.refuse(f'"{name}" must be a list, not {type_of(turns)}')
        if not turns:
            return self.refuse(f'"{name}" is empty')
        for turn in turns:
            where = f"turn {len(self.turns) - self.system_apart + 1}"
            read = self.read_turn(turn, where)
            if read.role == "system" and self.turns:
                self.refuse(f"{where} is a system turn; a system turn comes first, and there is at most one")
            read.in_prompt = in_prompt
            self.turns.append(read)

    def read_turn(self, turn, where):
        if not isinstance(turn, dict):
            self.refuse(f"{where} must be an object, not {type_of(turn)}")
            return Turn(where, None, "")
        self.check_fields(turn, "turn", where)
        pairs = [(self.role_in(turn, role, where), self.content_in(turn, content, where))
                 for role, content in SPELLINGS if is_there(turn, role) and is_there(turn, content)]
        single = [self.role_in(turn, role, where) for role, _ in SPELLINGS if is_there(turn, role)]
        contents = [self.content_in(turn, content, where) for _, content in SPELLINGS if is_there(turn, content)]
        if not pairs:
            self.refuse_half_turn(turn, where)
        if len(set(single) - {None}) == 2 or len(set(contents)) == 2:
            self.refuse(f'{where} has "from" and "value" that differ from its "role" and "content"; keep one pair')
        role, content = pairs[0] if pairs else (None, "")
        read = Turn(where, role, content)
        self.read_reasoning(turn, where, read)
        read.marks = self.marks_of(MASKS, turn, where)
        return read

    def refuse_half_turn(self, turn, where):
        """Of a turn with neither pair whole: what is missing is named in one of the spellings."""
        for name in itertools.chain(*SPELLINGS):
            if name not in turn:
                self.refuse(f'{where} has no "{name}"')
            elif turn[name] is None:
                self.refuse(f'"{name}" of {where} must be a string, not null')

    def role_in(self, turn, name, where):
        role = self.text(turn[name], f'"{name}" of {where}')
        if not isinstance(turn[name], str):
            return None
        if role in TOOL_ROLES:
            self.refuse(f'{where} is a "{role}" turn; tool calls are not supported')
        elif role not in ROLES:
            self.refuse(f'{where} has the unknown role "{role}" (known: system, user or human, assistant or gpt)')
        return ROLES.get(role)

    def content_in(self, turn, name, where):
        what = f'"{name}" of {where}'
        if not isinstance(turn[name], list):
            return self.text(turn[name], what)
        return "".join(self.read_part(part, what) for part in turn[name])

    def read_part(self, part, what):
        if isinstance(part, str):
            return part
        if not isinstance(part, dict):
            self.refuse(f"a part of {what} must be an object, not {type_of(part)}")
            return ""
        kind = self.text(part["type"], f'the "type" of a part of {what}') if is_there(part, "type") else "text"
        if kind != "text":
            self.refuse(f'{what} holds a part of type "{kind}"; only text can be trained on')
        self.check_fields(part, "part", f"a part of {what}")
        return self.text(self.text_in(part, "text", f"a part of {what}"), f'"text" in {what}')

    def read_reasoning(self, thing, where, turn):
        of = "the sample" if where == "it" else where
        read = {}
        for name in REASONING:
            if says_nothing(thing.get(name)):
                continue
            read[f'"{name}" of {of}'] = self.text(thing[name], f'"{name}" of {of}')
            if turn.role != "assistant":
                but = "no turn of its completion is" if where == "it" else "is not"
                self.refuse(f'{where} has "{name}", but {but} of the assistant; put it into the content, or take it away')
        places = list(read)
        for one, other in itertools.combinations(places, 2):
            if read[one] != read[other]:
                self.refuse(f"{one} and {other} differ; keep one")
        if turn.reasoning and places and read[places[0]] != turn.reasoning:
            for name in REASONING:
                self.refuse(f'"{name}" of {turn.where} and {places[0]} differ; keep one')
        if places:
            turn.reasoning = read[places[0]]

    # forms

    def read_alpaca(self, sample):
        history = sample["history"] if is_filled(sample, "history") else []
        if not isinstance(history, list):
            self.refuse(f'"history" must be a list, not {type_of(history)}')
            history = []
        for pair in history:
            if not isinstance(pair, list) or len(pair) != 2:
                self.refuse('each entry of "history" must be [question, answer]')
                continue
            self.add_pair(self.text(pair[0], 'a question in "history"'), self.text(pair[1], 'an answer in "history"'))
        question = [self.text(sample["instruction"], '"instruction"')]
        if is_filled(sample, "input"):
            question.append(self.text(sample["input"], '"input"'))
        answer = self.text(self.text_in(sample, "output", "an alpaca sample"), '"output"')
        self.add_pair("\n".join(text for text in question if text), answer)
        self.read_reasoning(sample, "it", self.turns[-1])

    def add_pair(self, question, answer):
        for role, text in (("user", question), ("assistant", answer)):
            self.turns.append(Turn(f"turn {len(self.turns) - self.system_apart + 1}", role, text))

    def read_completion(self, sample):
        as_turns = any(isinstance(sample[name], list) for name in ("prompt", "completion"))
        for name, role in (("prompt", "user"), ("completion", "assistant")):
            before = len(self.turns)
            if isinstance(sample[name], list):
                self.add_turns(sample, name, in_prompt=name == "prompt")
            elif as_turns and not isinstance(sample[name], str):
                self.refuse(f'"{name}" must be a string or a list of turns, not {type_of(sample[name])}')
            else:
                where = f"turn {before - self.system_apart + 1}"
                self.turns.append(Turn(where, role, self.text(sample[name], f'"{name}"'), name == "prompt"))
        self.form = "chat" if as_turns else "completion"
        answers = [turn for turn in self.turns[before:] if turn.role == "assistant"]
        self.read_reasoning(sample, "it", answers[0] if answers else Turn("it", "user", ""))

    def read_text(self, sample):
        text = self.text(sample["text"], '"text"')
        if text == "":
            self.refuse('"text" is empty')
        self.turns.append(Turn("turn 1", "assistant", text))

    # masks

    def mark(self, value, what):
        if isinstance(value, bool) or isinstance(value, (int, float)) and value in (0, 1):
            return bool(value)
        self.refuse(f"{what} must be 0 or 1, or false or true, not {shown(value)}")
        return True

    def marks_of(self, names, thing, where, what='"{}" of {}'):
        marks = [(name, f'"{name}" of {where}', self.mark(thing[name], what.format(name, where)))
                 for name in names if is_there(thing, name)]
        return [(name, place, trained) for name, place, trained in marks if not (trained and name in FACTORS)]

    def check_marks(self, marks):
        for (_, one, trained), (_, other, otherwise) in itertools.permutations(marks, 2):
            if trained != otherwise:
                self.refuse(f"{one} and {other} contradict each other: one leaves it out of the loss, the other trains it")

    def read_masks(self, sample):
        lists = {name: sample[name] for name in MASKS if isinstance(sample.get(name), list)}
        whole = self.marks_of([name for name in MASKS if name not in lists], sample, "the sample", '"{}"')
        self.check_marks(whole)
        self.out = any(not trained for _, _, trained in whole)
        for name, entries in lists.items():
            turns = self.turns[1:] if self.system_apart and len(entries) == len(self.turns) - 1 else self.turns
            if len(entries) != len(turns):
                self.refuse(f'"{name}" has {len(entries)} entries for {len(self.turns)} turns; it needs one per turn')
                continue
            for number, (entry, turn) in enumerate(zip(entries, turns), 1):
                if entry is None:
                    continue
                place = f'entry {number} of "{name}"'
                trained = self.mark(entry, place)
                if not (trained and name in FACTORS):
                    turn.marks.append((name, place, trained))
        for turn in self.turns:
            self.check_marks(turn.marks)
