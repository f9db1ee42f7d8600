// Changes that leave JSON what it is, so that more of a reader is reached than its parser.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm::fuzz {

// The text with one value of it replaced, left out, moved, repeated or renamed; `words` that are JSON are among what
// takes its place. The text as it is where that is no JSON.
std::string change_json(std::string_view text, const std::vector<std::string>& words,
                        std::mt19937_64& random);

}  // namespace autoglm::fuzz
