// A model's own chat template, ready to be run.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/data/conversation.h"
#include "trainer/data/jinja/evaluator.h"
#include "trainer/data/special_tokens.h"

namespace autoglm {

// One message as a template sees it. The texts must outlive the call that they are given to.
struct TemplateTurn {
  Role role = Role::user;
  std::string_view content;
  std::string_view reasoning_field = {};  // under which name the reasoning is given; empty when there is none
  std::string_view reasoning = {};
};

// Immutable, thread-safe.
class TemplateProgram {
 public:
  enum class Date { unknown, today };

  // Parses the Jinja template `text`. With Date::today it finds strftime_now(), as in transformers, which says the
  // local time of now; else no such function. Throws jinja::TemplateError.
  TemplateProgram(std::string_view text, const SpecialTokens& tokens, Date date = Date::unknown);

  // What it writes, as apply_chat_template does with these messages. Throws jinja::TemplateError.
  jinja::Rendering render(std::span<const TemplateTurn> turns, bool generation_prompt) const;

 private:
  jinja::Template program_;
  std::vector<std::pair<std::string, jinja::Value>> variables_;  // besides the messages
};

}  // namespace autoglm
