#include "trainer/data/text_ending.h"

#include <algorithm>

#include "base/error.h"

namespace autoglm {

bool TextEnding::ends_already(std::string_view text) const {
  while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos)
    text.remove_suffix(1);
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const std::string& token) { return text.ends_with(token); });
}

void TextEnding::require_eos() const {
  if (!eos_problem.empty()) throw Error(ExitCode::bad_data, eos_problem);
}

}  // namespace autoglm
