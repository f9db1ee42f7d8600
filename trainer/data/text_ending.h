// How running text ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

struct TextEnding {
  // Tokens with which a text may end that is rendered already.
  std::vector<std::string> tokens;
  // Why the eos that the model names cannot be written; empty when it can.
  std::string eos_problem;

  // Whether the text ends with one of the tokens; white space after it is passed over.
  bool ends_already(std::string_view text) const;
  // Throws Error(bad_data) when no eos can be written.
  void require_eos() const;
};

}  // namespace autoglm
