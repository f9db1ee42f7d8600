// The Jinja text of a model's chat template, run on chats.
#include "base/error.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/data/jinja/value.h"
#include "trainer/data/special_tokens.h"
#include "trainer/data/template_program.h"

namespace autoglm::fuzz {

std::vector<std::string> seeds() {
  return {
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message.content | trim + "
      "'<|im_end|>'}}{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|im_start|>assistant\\n' }}{% endif %}",
      "{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0].content -%}{%- set messages = "
      "messages[1:] -%}{%- endif -%}{%- set ns = namespace(index=0, done=false) -%}{%- for m in messages | "
      "list -%}"
      "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('order') }}{%- endif -%}"
      "{%- set ns.index = ns.index + 1 -%}{{- m.content.split('</think>')[-1].lstrip('\\n') -}}"
      "{% generation %}{{ eos_token }}{% endgeneration %}{%- endfor -%}",
      "{% macro turn(m, last=false) %}{{ m['content'] ~ ('!' if last else '') | upper }}{% endmacro %}"
      "{% for i in range(3) %}{{ turn(messages[i], i == 2) }}{% endfor %}{{ {'a': [1, 2.5, none]} | tojson }}"
      "{% set x %}text{% endset %}{{ x | replace('t', 'u') | length }}{# comment #}{{ messages is defined "
      "and "
      "messages is iterable }}{{ bos_token if bos_token is string else strftime_now('%d %b %Y') }}"};
}

std::vector<std::string> words() {
  return {"{%",
          "%}",
          "{{",
          "}}",
          "{#",
          "#}",
          "-%}",
          "{%-",
          "for ",
          "endfor",
          "if ",
          "elif ",
          "else",
          "endif",
          "set ",
          "endset",
          "macro ",
          "endmacro",
          "break",
          "continue",
          "loop.",
          "range(",
          "namespace(",
          "messages",
          "['content']",
          "| trim",
          "| tojson(indent=4)",
          "| join(', ')",
          "| selectattr('role', 'equalto', 'user')",
          "| list",
          "| first",
          "| last",
          "| int",
          "| string",
          "| items",
          "| safe",
          "| default(",
          ".split(",
          ".strip()",
          ".startswith(",
          ".items()",
          "[::-1]",
          "[1:]",
          "* 1000000",
          "+ ",
          "~ ",
          "// 0",
          "% 0",
          "- ",
          " is ",
          " not ",
          " in ",
          " and ",
          " or ",
          "none",
          "true",
          "raise_exception(",
          "strftime_now(",
          "1000000",
          "generation",
          "\\x00",
          "\xC3\xA9",
          "(((((((((((((((((((("};
}

void read(std::string_view input) {
  const SpecialTokens tokens{.bos = "<s>", .eos = "</s>", .pad = std::nullopt};
  const TemplateTurn turns[] = {
      {Role::system, "Be brief."},
      {Role::user, " Q\n"},
      {Role::assistant, "<think>\nT\n</think>\n\nA \xC3\xA9", "reasoning_content", "R"}};
  try {
    const TemplateProgram program(input, tokens, TemplateProgram::Date::today);
    for (const bool prompt : {false, true}) {
      const jinja::Rendering rendering = program.render(turns, prompt);
      std::size_t last = 0;
      for (const auto& [begin, end] : rendering.generated) {
        AUTOGLM_CHECK(begin >= last && end >= begin && end <= rendering.text.size());
        last = end;
      }
    }
  } catch (const jinja::TemplateError& error) {
    fail(ExitCode::bad_data, "{}", error.what());
  }
}

}  // namespace autoglm::fuzz
