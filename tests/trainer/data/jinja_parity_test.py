"""The template evaluator against Jinja itself, set up as transformers sets it up.

    jinja_parity_test.py JINJA_TOOL
"""

import itertools
import json
import subprocess
import sys
import unittest

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

import model_templates
import own_templates

JINJA_TOOL = None
MESSAGES = [
    {"role": "system", "content": "  S\n"},
    {"role": "user", "content": "\n\n Grüße 世界 "},
    {"role": "assistant", "content": "<think>t</think>A", "metadata": "m"},
    {"role": "user", "content": ""},
]
VARIABLES = {
    "messages": MESSAGES, "add_generation_prompt": True, "tools": None, "bos_token": "<s>", "eos_token": "</s>",
    "numbers": [3, 1, 2], "empty": [], "yes": True, "no": False, "text": "a-b-c", "seven": 7,
}

EXPRESSIONS = [
    "1 + 2 * 3", "(1 + 2) * 3", "7 // 2 ~ '|' ~ 7 % 3 ~ '|' ~ -7 // 2 ~ '|' ~ -7 % 3",
    "'a' ~ 1 ~ none ~ yes ~ missing", "'a' 'b' + 'c'", "text.split('-')[1]", "text.split('-')[-1]",
    "text.split('-', 1)[1]", "messages[1:][0].content | trim", "messages[-1].role", "messages[:-1] | length",
    "text[1:3]", "text[::-1]", "'世界'[1]", "'世界' | length", "'x' in text", "'a' in text and 'z' not in text",
    "not yes or no", "yes and 'kept'", "no or 'other'", "'t' if yes else 'f'", "'t' if no",
    "('t' if no else 'm') ~ 'end'", "missing is defined", "missing is not defined", "tools is none",
    "tools is not none", "missing is none", "text is string and numbers is iterable and text is sequence",
    "messages[0] is mapping", "seven is odd", "seven is number", "yes is true", "text is eq 'a-b-c'",
    "missing == none", "messages[0].missing", "messages[0]['missing'] is defined", "messages[0].get('missing', 'd')",
    "messages[0].get('x')", "messages[2].get('metadata', '')", "'role' in messages[0]", "messages[0].items() | length",
    "text | upper | lower", "text.upper()", "text.startswith('a') ~ text.endswith('b')",
    "'  x '.lstrip() ~ '|' ~ '  x '.rstrip() ~ '|'", "'xxaxx'.strip('x')", "text | replace('-', '+')",
    "text.replace('-', '')", "numbers | join(', ')", "', '.join(['a', 'b'])", "numbers | first ~ numbers | last",
    "missing | default('d')", "'' | default('d', true)", "none | default('d')", "'\\n\\t\\\\\\'\\x41\\u4e16'",
    '"a\\"b"', "[1, 2] == [1, 2]", "{'a': 1}.a", "{'a': 1} == {'a': 1.0}", "(1, 2)[1]", "yes == 1", "1 < 2",
    "'a' < 'b'", "2 >= 2", "seven is defined and seven > 3", "not missing.x", "missing.x", "missing['x']", "none.x",
    "none['x']", "none[0]", "numbers.append(1)", "1 + 'a'", "'a' + 1", "undefined_function()", "text.nothing()",
    "numbers[5]", "numbers[5].x", "range(3) | join('')", "range(1, 7, 2) | join('')", "(messages | length) - 1",
    "-seven + 1", "missing ~ 'x'", "messages[0].content", "true ~ True ~ false ~ none", "numbers | length > 2",
    "'a' is in ['a']", "text is in ['a']", "raise_exception('stop')", "messages | map(attribute='role')",
    "'abc'[:2] ~ 'abc'[-2:]", "'b'.capitalize()", "1.5 > 1", "'\\u00a0 x\\u3000' | trim",
    "messages[0]['content'].strip() + eos_token", "numbers is sequence", "'x' if missing is defined",
    "messages | selectattr('role', 'equalto', 'user') | list | length",
    "messages | rejectattr('metadata', 'defined') | list | length",
    "messages | selectattr('content') | map(attribute='role') | join(',')",
    "messages | map(attribute='metadata', default='-') | join(',')", "numbers | map('string') | join('')",
    "numbers | select('odd') | join(',')", "numbers | reject('gt', 1) | join(',')", "numbers | select | list | length",
    "[0, 1] | select | list | length", "numbers | reverse | join('')", "'12' | int + 1", "' 7 ' | int", "'x' | int",
    "2.9 | int", "'a b  c'.split() | join('|')", "' a\\n b '.split() | length", "text.rsplit('-', 1)[0]",
    "text.rsplit('-') | join('+')", "'hello wORLD a1b'.title()", "text.removeprefix('a-') ~ text.removesuffix('-c')",
    "text.find('b') ~ text.find('z')", "'世界x'.find('x')", "8 is divisibleby(4) ~ 8 is divisibleby 3",
    "2 is gt(1) ~ 2 is le 1 ~ 1 is lt 2 ~ 1 is ge 2", "range is callable ~ 1 is callable", "messages[0] | tojson",
    "messages | tojson(indent=2)", "[] | tojson(indent=4)", "'\"\\\\\\n\\t世界\\x01/' | tojson",
    "[1, none, true, {'a': []}] | tojson",
]

STATEMENTS = [
    "{% for n in numbers %}{{ n }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for n in empty %}x{% else %}none{% endfor %}",
    "{% for n in numbers if n > 1 %}{{ loop.index }}/{{ loop.length }}:{{ n }} {% endfor %}",
    "{% for n in numbers %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ n }}{% endfor %}",
    "{% for n in numbers %}{% if n == 1 %}{% break %}{% endif %}{{ n }}{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for n in numbers %}{{ loop.previtem }}<{{ n }}>{{ loop.nextitem }} {{ loop.revindex }}"
    "{{ loop.first }}{% endfor %}",
    "{% set x = 1 %}{% for n in numbers %}{% set x = n %}{% endfor %}{{ x }}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% if m.role == 'user' %}"
    "{% set ns.found = true %}"
    "{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.n }}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% macro f(a, b='B') %}[{{ a }}{{ b }}{{ seven }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}",
    "{% macro f(a) %}{% if a > 0 %}{{ a }}{{ f(a - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f() %}{{ hidden }}{% endmacro %}{% for hidden in numbers %}{{ f() }}{% endfor %}",
    "{% set block %}a{{ seven }}{% endset %}{{ block }}",
    "{% set block %}{% for n in numbers %}{% for m in numbers %}{% set x = m %}{{ n }}"
    "{% endfor %}{% endfor %}{% endset %}{{ block }}",
    "{% for n in numbers %}{% set block %}{% for m in numbers if m > n %}{{ m }}{% break %}{% endfor %}"
    "{% endset %}{{ block }},{% endfor %}",
    "{% set m = messages[1:] %}{{ m | length }}{% set messages = m %}{{ messages | length }}",
    "a{# comment with {{ tags }} and 'quote #}b", "{{ '}}' }}{{ '%}' }}", "{ {a} }", "{{", "{% if yes %}",
    "{% endfor %}", "{{ 'a' }", "{% nothing %}", "{{ a b }}", "{% for %}{% endfor %}", "{% set 1 = 2 %}", "", "\n",
    "a\n\n", "a\r\nb\r\n", "{% generation %}x{% endgeneration %}", "{{ }}", "{% if yes %}a{% endfor %}",
    "{{ 'unclosed }}",
]

# Every way to write the marks around a tag, between every kind of white space.
GAPS = ["", " ", "\n", " \n", "\n ", "\n\n ", "x \n", "\n x", " x "]


def whitespace_cases():
    tags = []
    for left, right in itertools.product(["", "-", "+"], repeat=2):
        tags.append(f"{{%{left} if yes {right}%}}")
        tags.append(f"{{#{left} note {right}#}}")
    for left, right in itertools.product(["", "-"], repeat=2):
        tags.append(f"{{{{{left} 'v' {right}}}}}")
    for tag, before, after in itertools.product(tags, GAPS, GAPS):
        yield before + tag + after + ("{% endif %}" if " if " in tag else "") + "."
    for first, second, gap in itertools.product(tags[::3], tags[::2], GAPS):
        yield "a" + first + gap + second + "b" + "{% endif %}" * ((" if " in first) + (" if " in second))


def generation_tag(source):
    """transformers renders the body of {% generation %}; Jinja alone does not know the tag."""
    return source.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def fail_template(message):
    raise TemplateError(message)


def reference(source, variables):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = fail_template
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        return environment.from_string(generation_tag(source)).render(**variables)
    except Exception:  # what a template can raise is any exception of Python
        return None


def run_tool(sources, variables):
    lines = "".join(json.dumps({"template": source, "variables": variables}) + "\n" for source in sources)
    done = subprocess.run([JINJA_TOOL], input=lines.encode(), capture_output=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


class JinjaParity(unittest.TestCase):
    def compare(self, sources, may_refuse=()):
        for source, ours in zip(sources, run_tool(sources, VARIABLES), strict=True):
            with self.subTest(source=source):
                wanted = reference(source, VARIABLES)
                if source in may_refuse:
                    self.assertIn("error", ours)
                elif wanted is None:
                    self.assertIn("error", ours)
                else:
                    self.assertEqual(ours.get("text", ours), wanted)

    def test_expressions(self):
        # What Jinja can do and chat templates do not need is refused, never done differently.
        refused = {"{{ messages | map(attribute='role') }}"}
        self.compare(["{{ " + expression + " }}" for expression in EXPRESSIONS], refused)

    def test_statements(self):
        self.compare(STATEMENTS)

    def test_white_space_control(self):
        sources = list(whitespace_cases())
        self.assertGreater(len(sources), 1500)
        self.compare(sources)

    def test_chat_templates(self):
        self.compare([template.plain for template in own_templates.TEMPLATES.values()])
        self.compare([source for _, source in model_templates.MODELS.values()] +
                     list(model_templates.NEAR_MISSES.values()),
                     may_refuse={model_templates.NEAR_MISSES["an unknown filter"]})

    def test_bounds(self):
        endless = [
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
            "{% if yes %}" * 5000 + "{% endif %}" * 5000,
            "{{ " + "not " * 5000 + "yes }}",
            "{{ " + "-" * 5000 + "seven }}",
            "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        ]
        for source, ours in zip(endless, run_tool(endless, VARIABLES), strict=True):
            self.assertIn("error", ours, source[:60])


if __name__ == "__main__":
    JINJA_TOOL = sys.argv[1]
    unittest.main(argv=sys.argv[:1])
