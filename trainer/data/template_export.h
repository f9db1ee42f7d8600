// A built-in chat template as the text that other programs evaluate.
#pragma once

#include <string>

#include "trainer/data/template_spec.h"

namespace autoglm {

// A Jinja template, for chat_template.jinja, that renders chats and prompts to the same text as `spec` does, and
// refuses roles that it has no place for.
std::string to_jinja(const TemplateSpec& spec);

}  // namespace autoglm
