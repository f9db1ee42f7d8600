// How running text begins and ends.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

struct TextEnding {
  // Tokens with which a text may end that is rendered already.
  std::vector<std::string> tokens = {};
  // The model's, empty where it has none.
  std::string bos = {};
  std::string pad = {};
  // Why the eos that the model names cannot be written; empty when it can.
  std::string eos_problem = {};

  // Whether the text ends with one of the tokens; white space after it is passed over.
  bool ends_already(std::string_view text) const;
  // The text with the last of the bos that it begins with and the first of the equal end tokens, one after the other, that
  // it ends with; without pads behind an end token.
  std::string_view with_one_of_each(std::string_view text) const;
  // Throws Error(bad_data) when no eos can be written.
  void require_eos() const;
};

}  // namespace autoglm
