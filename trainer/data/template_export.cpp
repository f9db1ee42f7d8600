#include "trainer/data/template_export.h"

#include <fmt/core.h>

namespace autoglm {
namespace {

// A string literal. Backslash sequences are the only way to hold a line end on one line.
std::string jinja_literal(std::string_view text) {
  std::string literal = "'";
  for (const char character : text) {
    if (character == '\n') {
      literal += "\\n";
    } else {
      if (character == '\'' || character == '\\') literal += '\\';
      literal += character;
    }
  }
  return literal + "'";
}

// {{- 'before' + content + 'after' -}}, where `content` is an expression.
std::string turn_output(const TurnMarkup& turn, std::string_view content, bool strips) {
  const std::string value = strips ? fmt::format("({}) | trim", content) : fmt::format("({})", content);
  return fmt::format("{{{{- {} -}}}}\n{{{{- {} -}}}}\n{{{{- {} -}}}}\n",
                     jinja_literal(turn.before + turn.lead), value, jinja_literal(turn.end + turn.after));
}

std::string system_part(const TemplateSpec& spec) {
  if (spec.system_in_user) {
    return fmt::format("{{%- set pending.system = {} + message['content'] + {} -%}}\n",
                       jinja_literal(spec.system.before), jinja_literal(spec.system.end));
  }
  return turn_output(spec.system, "message['content']", spec.strips_content);
}

std::string answering_part(const TemplateSpec& spec, const TurnMarkup& turn) {
  if (!spec.system_in_user) return turn_output(turn, "message['content']", spec.strips_content);
  return turn_output(turn, "pending.system + message['content']", spec.strips_content) +
         "{%- set pending.system = '' -%}\n";
}

}  // namespace

std::string to_jinja(const TemplateSpec& spec) {
  std::string text;
  if (!spec.start.empty()) text += fmt::format("{{{{- {} -}}}}\n", jinja_literal(spec.start));
  if (spec.default_system) {
    text += "{%- if messages[0]['role'] != 'system' -%}\n" +
            turn_output(spec.system, jinja_literal(*spec.default_system), spec.strips_content) +
            "{%- endif -%}\n";
  }
  if (spec.system_in_user) text += "{%- set pending = namespace(system='') -%}\n";
  text += "{%- for message in messages -%}\n";
  if (spec.skips_empty) text += "{%- if message['content'] -%}\n";
  if (spec.joins_with_newline) text += "{%- if not loop.first -%}{{- '\\n' -}}{%- endif -%}\n";
  text += "{%- if message['role'] == 'system' -%}\n" + system_part(spec) +
          "{%- elif message['role'] == 'user' -%}\n" + answering_part(spec, spec.user) +
          "{%- elif message['role'] == 'assistant' -%}\n" + answering_part(spec, spec.assistant) +
          fmt::format("{{%- else -%}}\n{{{{- raise_exception({}) -}}}}\n{{%- endif -%}}\n",
                      jinja_literal("the chat template " + spec.name +
                                    " has turns of system, user and assistant only"));
  if (spec.skips_empty) text += "{%- endif -%}\n";
  text += "{%- endfor -%}\n";
  const std::string opening = (spec.joins_with_newline ? "\n" : "") + spec.assistant.before;
  if (!opening.empty())
    text += fmt::format("{{%- if add_generation_prompt -%}}\n{{{{- {} -}}}}\n{{%- endif -%}}\n",
                        jinja_literal(opening));
  return text;
}

}  // namespace autoglm
