// Which built-in template a model's own template text amounts to.
#pragma once

#include <optional>
#include <string>

#include "trainer/data/template_spec.h"

namespace autoglm {

// Evaluates the Jinja template `text` on probe chats (with and without a system turn, several turns, white
// space around contents, empty contents, reasoning tags, with and without the generation prompt) and returns
// the built-in template that renders every one of them to the same text; nothing when none does, or when the
// template needs what the evaluator does not know. Comparing what templates write rather than how they are
// written recognizes every spelling and cannot confuse two that differ.
std::optional<TemplateSpec> recognize_template(const std::string& text, const SpecialTokens& tokens);

// Whether the template `text` renders every probe chat as `spec` does.
bool renders_as(const std::string& text, const TemplateSpec& spec, const SpecialTokens& tokens);

}  // namespace autoglm
