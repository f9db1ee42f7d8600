#include "trainer/data/text_ending.h"

#include <algorithm>

#include "base/error.h"

namespace autoglm {
namespace {

std::string_view without_space_behind(std::string_view text) {
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace

bool TextEnding::ends_already(std::string_view text) const {
  text = without_space_behind(text);
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const std::string& token) { return text.ends_with(token); });
}

std::string_view TextEnding::with_one_of_each(std::string_view text) const {
  while (!bos.empty() && text.starts_with(bos) && text.substr(bos.size()).starts_with(bos))
    text.remove_prefix(bos.size());
  std::string_view rest = without_space_behind(text);
  while (!pad.empty() && rest.ends_with(pad))
    rest = without_space_behind(rest.substr(0, rest.size() - pad.size()));
  if (rest.size() != without_space_behind(text).size() && ends_already(rest)) text = rest;
  for (const std::string& token : tokens) {
    for (rest = without_space_behind(text); rest.ends_with(token);) {
      rest = without_space_behind(rest.substr(0, rest.size() - token.size()));
      if (!rest.ends_with(token)) break;
      text = rest;
    }
  }
  return text;
}

void TextEnding::require_eos() const {
  if (!eos_problem.empty()) throw Error(ExitCode::bad_data, eos_problem);
}

}  // namespace autoglm
