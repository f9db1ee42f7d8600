// Reading the text of one option's value, with one sentence when it is wrong: option, what is accepted, what
// was given.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace autoglm {

// Both ends belong to the range.
struct IntegerRange {
  std::int64_t least = 0;
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};

struct RealRange {
  double least = 0;
  double most = 1;
  bool excludes_least = false;
  bool excludes_most = false;
};

// "a whole number from 1 to 64", "a whole number of at least 1".
std::string describe(IntegerRange range);

// "a number above 0 and at most 1", "a number from 0 to below 1".
std::string describe(RealRange range);

// Whole decimal numbers only: no sign but '-', no exponent, no blanks. `option` is how the person wrote the
// option's name and begins the sentence. Throws Error(usage).
std::int64_t parse_integer(std::string_view text, IntegerRange range, std::string_view option);

// Finite decimal numbers. Throws Error(usage).
double parse_real(std::string_view text, RealRange range, std::string_view option);

// "on", "true", "yes" and "off", "false", "no". Throws Error(usage).
bool parse_switch(std::string_view text, std::string_view option);

// The text as it can stand in a sentence: in double quotes, control characters escaped, cut when very long.
std::string in_quotes(std::string_view text);

// Throws Error(usage): "--seed takes a whole number of at least 0; got "x"".
[[noreturn]] void refuse_value(std::string_view option, std::string_view accepted, std::string_view text);

// Shortest text that reads back as the same number, as a person writes it: 1e-5, 0.95, 3.
std::string format_real(double value);

}  // namespace autoglm
