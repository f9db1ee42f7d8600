// Regular expressions for matchers. GoogleTest's own call regcomp and regexec, which liboniguruma has too:
// under a sanitizer one of them comes from there and one from the C library, and they wait for each other
// forever.
#pragma once

#include <gmock/gmock.h>

#include <regex>
#include <string>

namespace autoglm {

// Whether all of the text follows the ECMAScript pattern.
MATCHER_P(MatchesPattern, pattern, "") {
  return std::regex_match(std::string(arg), std::regex(std::string(pattern)));
}

// Whether a part of the text follows the ECMAScript pattern.
MATCHER_P(ContainsPattern, pattern, "") {
  return std::regex_search(std::string(arg), std::regex(std::string(pattern)));
}

}  // namespace autoglm
