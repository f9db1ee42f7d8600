// Runs a parsed template.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "trainer/data/jinja/parser.h"

namespace autoglm::jinja {

struct Rendering {
  std::string text;
  // Bytes [begin, end) that {% generation %} blocks wrote; ordered. Those inside a macro or a {% set %} block are
  // not known.
  std::vector<std::pair<std::size_t, std::size_t>> generated;
};

// What the template writes with these variables (a dictionary). Steps and output are bounded, so any template
// comes to an end. Throws TemplateError for what is not supported, and where Jinja would fail. The template is
// only read: many threads may run it at once.
Rendering render(const Template& program, const Value& variables);

// Its text alone.
std::string evaluate(const Template& program, const Value& variables);

}  // namespace autoglm::jinja
