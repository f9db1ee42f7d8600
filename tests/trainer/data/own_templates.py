"""Chat templates in the manner of published ones that are none of the built-in ones.

Each says with {% generation %} what its model writes: that is the test's own word on what is to be trained. What a
model comes with is the same text without these tags.
"""

from dataclasses import dataclass, field

GEN = "{% generation %}"
END = "{% endgeneration %}"


@dataclass
class OwnTemplate:
    source: str  # with the tags
    eos: str
    bos: str | None = None
    specials: list = field(default_factory=list)  # tokens of its own
    fallback: bool = False  # the tokenizer is a byte fallback one
    system: bool = True  # it has a place for a system turn
    reasoning: str | None = None  # under which name it takes reasoning
    opens_otherwise: bool = False
    next_turn_ends: str | None = None

    @property
    def plain(self):
        return self.source.replace(GEN, "").replace(END, "")


def each(before, user, assistant, system, prompt, head=""):
    """One loop over the messages; the parts are Jinja texts."""
    return (
        head + "{% for message in messages %}" + before + "{% if message['role'] == 'user' %}" + user
        + "{% elif message['role'] == 'assistant' %}" + assistant + "{% elif message['role'] == 'system' %}" + system
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}" + prompt + "{% endif %}"
    )


def chatml_turn(content):
    return "{{ '<|im_start|>' + message['role'] + '\n' + " + content + " + '<|im_end|>\n' }}"


VICUNA = OwnTemplate(
    each("", "{{ 'USER: ' + message['content'] }}",
         "{{ ' ASSISTANT:' }}" + GEN + "{{ ' ' + message['content'] + eos_token }}" + END,
         "", "{{ ' ASSISTANT:' }}",
         "{{ bos_token }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
         "A chat between a curious user and an assistant.{% endif %}{{ ' ' }}"),
    "</s>", "<s>", fallback=True)

TULU = OwnTemplate(
    each("", "{{ '<|user|>\n' + message['content'] + '\n' }}",
         "{% if not loop.last %}{{ '<|assistant|>\n' }}" + GEN + "{{ message['content'] + eos_token }}" + END +
         "{{ '\n' }}{% else %}"
         "{{ '<|assistant|>\n' }}" + GEN + "{{ message['content'] + eos_token }}" + END + "{% endif %}",
         "{{ '<|system|>\n' + message['content'] + '\n' }}", "{{ '<|assistant|>\n' }}"),
    "</s>", "<s>", fallback=True)

FALCON3 = OwnTemplate(
    "{%- if tools %}{{- '<|system|>\n' + (tools | tojson(indent=2)) + '\n' -}}{%- endif -%}" + each(
        "", "{{ '<|user|>\n' + message['content'] + '\n' }}",
        "{{ '<|assistant|>\n' }}" + GEN + "{{ message['content'] + eos_token }}" + END +
        "{% if not loop.last %}{{ '\n' }}{% endif %}",
        "{{ '<|system|>\n' + message['content'] + '\n' }}", "{{ '<|assistant|>\n' }}"),
    "<|endoftext|>")

HERMES = OwnTemplate(
    each("{% if loop.first and messages[0]['role'] != 'system' %}"
         "{{ '<|im_start|>system\nYou are Hermes, a thoughtful companion.<|im_end|>\n' }}{% endif %}",
         chatml_turn("message['content']"),
         "{{ '<|im_start|>assistant\n' }}" + GEN + "{{ message['content'] + '<|im_end|>' }}" + END + "{{ '\n' }}",
         chatml_turn("message['content']"), "{{ '<|im_start|>assistant\n' }}", "{{ bos_token }}"),
    "<|im_end|>", "<|begin_of_text|>")

CHATML_TRIM = OwnTemplate(
    each("", chatml_turn("message['content'] | trim"),
         "{{ '<|im_start|>assistant\n' }}" + GEN + "{{ message['content'] | trim + '<|im_end|>' }}" + END +
         "{{ '\n' }}",
         chatml_turn("message['content'] | trim"), "{{ '<|im_start|>assistant\n' }}"),
    "<|im_end|>")

R1_DISTILL = OwnTemplate(
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=true, system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}"
    "{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}"
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_first = false -%}"
    "{{ '<|User|>' + message['content'] }}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<|Assistant|>' }}"
    + GEN + "{{ content + eos_token }}" + END + "{%- endif %}{%- endfor -%}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}",
    "<|endoftext|>", "<|begin_of_text|>", ["<|User|>", "<|Assistant|>"], opens_otherwise=True)

QWEN3 = OwnTemplate("""{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string
          and not (message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}{%- set content = message.content %}
    {%- else %}{%- set content = '' %}{%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {%- if loop.last or (not loop.last and reasoning) %}
                {{- '<|im_start|>' + message.role + '\\n' }}{% generation %}{{ '<think>\\n'
                    + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n')
                    + '<|im_end|>' }}{% endgeneration %}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' }}{% generation %}{{
                    content + '<|im_end|>' }}{% endgeneration %}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' }}{% generation %}{{ content + '<|im_end|>' }}{% endgeneration %}
        {%- endif %}
        {%- if message.tool_calls %}{{ message.tool_calls | tojson }}{%- endif %}
        {{- '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
""", "<|im_end|>", reasoning="reasoning_content")

LLAMA3_DATED = OwnTemplate("""{{- bos_token }}
{%- if strftime_now is defined %}{%- set date = strftime_now("%d %b %Y") %}
{%- else %}{%- set date = "1 Jan 2000" %}{%- endif %}
{%- set loop_messages = messages %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}{%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system = "You are of help." %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date + "\\n\\n" + system + "<|eot_id|>" }}
{%- for message in loop_messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% generation %}{{
            message['content'] | trim + '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
            + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""", "<|endoftext|>", "<|begin_of_text|>")

GEMMA = OwnTemplate(
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('no place for a system turn') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('the roles must take turns') }}{% endif %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
    "{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' }}{% if role == 'model' %}" + GEN
    + "{{ message['content'] | trim + '<end_of_turn>' }}" + END + "{{ '\n' }}{% else %}"
    "{{ message['content'] | trim + '<end_of_turn>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "<|endoftext|>", "<|begin_of_text|>", ["<start_of_turn>", "<end_of_turn>"], system=False)

GEMMA3 = OwnTemplate("""{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if role == 'model' -%}{% generation %}{{
        message['content'] | trim ~ '<end_of_turn>' }}{% endgeneration %}{{ '\n' }}
    {%- elif message['content'] is string -%}
        {{ message['content'] | trim }}{{ '<end_of_turn>\n' }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""", "<|endoftext|>", "<|begin_of_text|>", ["<start_of_turn>", "<end_of_turn>"])

PHI3 = OwnTemplate(
    each("", "{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}",
         "{{ '<|assistant|>\n' }}" + GEN + "{{ message['content'] + '<|end|>' }}" + END + "{{ '\n' }}",
         "{% if message['content'] %}{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}{% endif %}",
         "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"),
    "<|endoftext|>", specials=["<|end|>"])

PHI4 = OwnTemplate(
    each("", "{{ '<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>' }}",
         "{{ '<|im_start|>assistant<|im_sep|>' }}" + GEN + "{{ message['content'] + '<|im_end|>' }}" + END,
         "{{ '<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>' }}",
         "{{ '<|im_start|>assistant<|im_sep|>' }}"),
    "<|im_end|>", specials=["<|im_sep|>"])

MISTRAL = OwnTemplate("""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("user and assistant must alternate") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- "" }}{% generation %}{{ " " + message["content"] | trim + eos_token }}{% endgeneration %}
    {%- else %}
        {{- raise_exception("only user and assistant") }}
    {%- endif %}
{%- endfor %}
""", "</s>", "<s>", fallback=True)

COHERE = OwnTemplate(
    "{%- macro open(name) -%}{{ '<|START_OF_TURN_TOKEN|><|' ~ name ~ '_TOKEN|>' }}{%- endmacro -%}{{ bos_token }}"
    "{% set block %}{% for message in messages %}{% if message.role == 'system' %}"
    "{{ message.content }}{% break %}{% endif %}{% endfor %}"
    "{% endset %}{{ open('SYSTEM') ~ (block | default('none', true)) ~ '<|END_OF_TURN_TOKEN|>' }}"
    "{% for message in messages %}{% if message.role == 'system' %}{% continue %}{% endif %}"
    "{% if message.role == 'user' %}{{ open('USER') ~ message.content.strip() ~ '<|END_OF_TURN_TOKEN|>' }}"
    "{% else %}{{ open('CHATBOT') }}"
    + GEN + "{{ message.content.strip() ~ '<|END_OF_TURN_TOKEN|>' }}" + END + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ open('CHATBOT') }}{% endif %}",
    "<|endoftext|>", "<|begin_of_text|>",
    ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"])

# What an answer writes is the newline and the content; the token of the next turn ends it.
GLM_Z1 = OwnTemplate(
    "[gMASK]<sop>" + each(
        "", "{{ '<|user|>\n' + message.content }}",
        "{{ '<|assistant|>' }}" + GEN +
        "{{ '\n' + (message.content if loop.last else message.content.split('</think>')[-1].strip()) }}" + END,
        "{{ '<|system|>\n' + message.content }}", "{{ '<|assistant|>' }}"),
    "<|endoftext|>", next_turn_ends="<|user|>")

TEMPLATES = {
    "vicuna": VICUNA, "tulu": TULU, "falcon3": FALCON3, "hermes": HERMES, "chatml that trims": CHATML_TRIM,
    "r1 distill": R1_DISTILL,
    "qwen3": QWEN3, "llama3 with a date": LLAMA3_DATED, "gemma": GEMMA, "gemma3": GEMMA3, "phi3": PHI3, "phi4": PHI4,
    "mistral": MISTRAL, "cohere": COHERE, "glm z1": GLM_Z1,
}
