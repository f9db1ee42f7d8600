#include "trainer/data/jinja/unicode_space.h"

#include <algorithm>
#include <array>

namespace autoglm {
namespace {

using std::string_view_literals::operator""sv;

// The characters for which Python's str.isspace() holds, in UTF-8.
constexpr std::array kSpaces = {
    "\t"sv,           "\n"sv,           "\v"sv,           "\f"sv,           "\r"sv,
    "\x1c"sv,         "\x1d"sv,         "\x1e"sv,         "\x1f"sv,         " "sv,
    "\xC2\x85"sv,     "\xC2\xA0"sv,     "\xE1\x9A\x80"sv, "\xE2\x80\x80"sv, "\xE2\x80\x81"sv,
    "\xE2\x80\x82"sv, "\xE2\x80\x83"sv, "\xE2\x80\x84"sv, "\xE2\x80\x85"sv, "\xE2\x80\x86"sv,
    "\xE2\x80\x87"sv, "\xE2\x80\x88"sv, "\xE2\x80\x89"sv, "\xE2\x80\x8A"sv, "\xE2\x80\xA8"sv,
    "\xE2\x80\xA9"sv, "\xE2\x80\xAF"sv, "\xE2\x81\x9F"sv, "\xE3\x80\x80"sv};

}  // namespace

std::string_view strip_space_left(std::string_view text) {
  for (;;) {
    const auto space = std::find_if(kSpaces.begin(), kSpaces.end(),
                                    [&](std::string_view s) { return text.substr(0, s.size()) == s; });
    if (space == kSpaces.end()) return text;
    text.remove_prefix(space->size());
  }
}

std::string_view strip_space_right(std::string_view text) {
  for (;;) {
    const auto space = std::find_if(kSpaces.begin(), kSpaces.end(), [&](std::string_view s) {
      return text.size() >= s.size() && text.substr(text.size() - s.size()) == s;
    });
    if (space == kSpaces.end()) return text;
    text.remove_suffix(space->size());
  }
}

}  // namespace autoglm
