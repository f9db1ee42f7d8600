"""Chat templates that write what the published ones write, each in another style of Jinja."""

SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QWEN2_SYSTEM = "You are a helpful assistant."

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SMOLLM2 = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" + SMOLLM2_SYSTEM + "<|im_end|>\\n' }}"
    "{% endif %}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{{ message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def qwen(system):
    return f"""
{{%- set preset = "{system}" %}}
{{%- macro turn(role, text) -%}}
    {{{{- "<|im_start|>" + role + "\\n" + text + "<|im_end|>\\n" -}}}}
{{%- endmacro %}}
{{%- if tools %}}
    {{{{- turn("system", "# Tools: " + (tools | tojson)) }}}}
{{%- elif messages[0].role == "system" %}}
    {{{{- turn("system", messages[0].content) }}}}
{{%- else %}}
    {{{{- turn("system", preset) }}}}
{{%- endif %}}
{{%- for message in messages %}}
    {{%- if message.role == "user" or (message.role == "assistant" and not message.tool_calls) %}}
        {{{{- turn(message.role, message.content) }}}}
    {{%- elif message.role == "tool" %}}
        {{{{- raise_exception("no tools") }}}}
    {{%- endif %}}
{{%- endfor %}}
{{%- if add_generation_prompt %}}
    {{{{- '<|im_start|>assistant\\n' }}}}
{{%- endif %}}
"""


GLM4 = """[gMASK]<sop>
{%- if tools -%}
<|system|>
# Tools
{% for tool in tools %}{{ tool | tojson(indent=4, ensure_ascii=False) }}{% endfor %}
{%- endif -%}

{%- for one in messages if one.role == 'system' %}
<|system|>
{{ one.content }}
{%- endfor %}

{%- for message in messages if message.role != 'system' %}
    {%- set role = message['role'] %}
    {%- set extra = message.get("metadata", "") %}

    {%- if role == 'user' %}
<|user|>
{{ message['content'] }}
    {%- elif role == 'assistant' and not extra %}
<|assistant|>
{{ message['content'] }}
    {%- elif role == 'assistant' %}
<|assistant|>{{ extra }}
{{ message['content'] }}
    {%- endif %}
{%- endfor %}
{% if add_generation_prompt %}<|assistant|>{% endif %}
"""

# Without turns that are empty, as glm-4-9b-chat has it.
GLM4_SKIPPING = (
    "[gMASK]<sop>{% for item in messages %}{% if item['tools'] is defined %}{{ item['tools'] | tojson }}{% endif %}"
    "{% if item['content'] %}<|{{ item['role'] }}|>{{ item['metadata'] }}\n{{ item['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set head = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set head = false %}{% endif %}"
    "{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.first and head != false %}"
    "{% set body = '<<SYS>>\\n' + head + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set body = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + body.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + body.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

LLAMA3 = (
    "{% for message in messages %}"
    "{% set part = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim "
    "+ '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set part = bos_token + part %}{% endif %}{{ part }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)

LLAMA3_1 = """{{- bos_token }}
{%- set when = date_string if date_string is defined else "26 Jul 2024" %}
{%- if messages[0]['role'] == 'system' %}
    {%- set head = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set head = "" %}
{%- endif %}

{#- what every chat begins with #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + when + "\\n\\n" }}
{{- head }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim \
+ '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] in ['system', 'user', 'assistant'] %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

# What a template is to be recognized as, its text, and the token that ends its answers.
MODELS = {
    "chatml": ("chatml", CHATML),
    "smollm2": ("smollm2", SMOLLM2),
    "qwen": ("qwen", qwen(QWEN_SYSTEM)),
    "qwen2": ("qwen", qwen(QWEN2_SYSTEM)),
    "glm4": ("glm4", GLM4),
    "glm4-chat": ("glm4", GLM4_SKIPPING),
    "llama2": ("llama2", LLAMA2),
    "llama3": ("llama3", LLAMA3),
    "llama3.1": ("llama3.1", LLAMA3_1),
    "zephyr": ("zephyr", ZEPHYR),
}

# Templates that differ from a built-in one in something that matters, so that auto must not take them for it. The last
# three cannot be used at all.
NEAR_MISSES = {
    "trimmed contents": CHATML.replace("m.content", "(m.content | trim)"),
    "another system turn": SMOLLM2.replace("SmolLM", "SomeLM"),
    "reasoning dropped from history": GLM4.replace(
        "{{ message['content'] }}", "{{ message['content'].split('</think>')[-1].strip() }}"
    ),
    "newline in the generation prompt": GLM4.replace("<|assistant|>{% endif %}", "<|assistant|>\n<think>{% endif %}"),
    "no newline after turns": CHATML.replace("<|im_end|>\\n", "<|im_end|>"),
    "reasoning added to the last answer": CHATML.replace(
        "~ m.content", "~ ('<think>\\n\\n</think>\\n\\n' if loop.last and m.role == 'assistant' else '') ~ m.content"
    ),
    "not Jinja": "{% for m in messages %}{{ m.content }",
    "an unknown filter": CHATML.replace("m.content", "m.content | forceescape"),
    "another family": "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}",
}
