#include "launcher/options/option_values.h"

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr std::size_t kLongestQuoted = 120;

// The whole of `text` as a number, or false.
template <typename Number>
bool read_number(std::string_view text, Number& value) {
  const char* end = text.data() + text.size();
  const auto [rest, status] = std::from_chars(text.data(), end, value);
  return status == std::errc() && rest == end;
}

}  // namespace

std::string describe(IntegerRange range) {
  if (range.most == std::numeric_limits<std::int64_t>::max())
    return fmt::format("a whole number of at least {}", range.least);
  return fmt::format("a whole number from {} to {}", range.least, range.most);
}

std::string describe(RealRange range) {
  const std::string least = format_real(range.least);
  const std::string most = format_real(range.most);
  if (range.excludes_least)
    return fmt::format("a number above {} and {} {}", least, range.excludes_most ? "below" : "at most", most);
  return fmt::format("a number from {} to {}{}", least, range.excludes_most ? "below " : "", most);
}

std::int64_t parse_integer(std::string_view text, IntegerRange range, std::string_view option) {
  std::int64_t value = 0;
  if (!read_number(text, value) || value < range.least || value > range.most)
    refuse_value(option, describe(range), text);
  return value;
}

double parse_real(std::string_view text, RealRange range, std::string_view option) {
  double value = 0;
  const bool in_range = read_number(text, value) && std::isfinite(value) && value >= range.least &&
                        value <= range.most && !(range.excludes_least && value == range.least) &&
                        !(range.excludes_most && value == range.most);
  if (!in_range) refuse_value(option, describe(range), text);
  return value;
}

bool parse_switch(std::string_view text, std::string_view option) {
  if (text == "on" || text == "true" || text == "yes") return true;
  if (text == "off" || text == "false" || text == "no") return false;
  refuse_value(option, "on or off", text);
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char character : text) {
    if (result.size() > kLongestQuoted) {
      // A byte of the form 10xxxxxx goes on with a character that has begun already.
      if ((static_cast<unsigned char>(character) & 0xC0) != 0x80) return result + "...\"";
    }
    if (static_cast<unsigned char>(character) < 0x20 || character == 0x7F)
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(character));
    else
      result += character;
  }
  return result + "\"";
}

void refuse_value(std::string_view option, std::string_view accepted, std::string_view text) {
  fail(ExitCode::usage, "{} takes {}; got {}", option, accepted, in_quotes(text));
}

std::string format_real(double value) {
  std::string text = fmt::format("{}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  // fmt writes at least two digits of an exponent.
  const std::size_t exponent = text.find('e');
  if (exponent != std::string::npos && exponent + 2 < text.size() && text[exponent + 2] == '0')
    text.erase(exponent + 2, 1);
  return text;
}

}  // namespace autoglm
