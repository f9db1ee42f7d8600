#include "trainer/data/json_problem.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace autoglm {
namespace {

using Kind = JsonError::Kind;

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

// The code unit of an escape "\uXXXX" at `at`, if there is one.
std::optional<unsigned> code_unit_at(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) != "\\u" || at + 6 > text.size()) return std::nullopt;
  unsigned unit = 0;
  const auto [end, status] = std::from_chars(text.data() + at + 2, text.data() + at + 6, unit, 16);
  if (status != std::errc() || end != text.data() + at + 6) return std::nullopt;
  return unit;
}

bool is_high(unsigned unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(unsigned unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

// Where the first escape of half a surrogate pair stands.
std::optional<std::size_t> lone_surrogate(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\\') continue;
    const std::optional<unsigned> unit = code_unit_at(text, at);
    if (!unit) {
      ++at;  // the escaped character may be a backslash
      continue;
    }
    const std::optional<unsigned> next = code_unit_at(text, at + 6);
    if (is_low(*unit) || (is_high(*unit) && !(next && is_low(*next)))) return at;
    at += is_high(*unit) ? 11 : 5;
  }
  return std::nullopt;
}

// Where a comma stands before a closing bracket, outside of strings.
std::optional<std::size_t> trailing_comma(std::string_view text) {
  bool quoted = false;
  std::optional<std::size_t> comma;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
      continue;
    }
    if ((c == '}' || c == ']') && comma) return comma;
    if (c == ',') {
      comma = at;
    } else if (!is_json_space(c)) {
      comma.reset();
    }
    quoted = c == '"';
  }
  return std::nullopt;
}

// What follows the first bracket that closes the value at the beginning of the text.
std::string_view behind_first_value(std::string_view text) {
  bool quoted = false;
  int depth = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
      continue;
    }
    quoted = c == '"';
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) {
      text.remove_prefix(at + 1);
      while (!text.empty() && is_json_space(text.front())) text.remove_prefix(1);
      return text;
    }
  }
  return {};
}

// The word of Python or JavaScript that the parser stopped at; empty when it is none.
std::string_view foreign_word_at(std::string_view text, std::size_t offset) {
  for (const std::string_view word : {"NaN", "-Infinity", "Infinity", "None", "True", "False", "undefined"}) {
    for (std::size_t back = 1; back <= word.size() && back <= offset; ++back) {
      if (text.substr(offset - back).starts_with(word)) return word;
    }
  }
  return {};
}

std::string describe_syntax(std::string_view text, const JsonError& error, bool is_line) {
  const std::size_t stopped = error.offset() > 0 ? std::min(error.offset() - 1, text.size()) : 0;
  if (const auto at = lone_surrogate(text); at && *at <= stopped) {
    return fmt::format(
        "the escape {} at character {} is a lone surrogate, half of a character; write the whole pair (such "
        "as "
        "\\ud83d\\ude00) or take it out",
        text.substr(*at, 6), *at + 1);
  }
  if (const auto comma = trailing_comma(text); comma && *comma < error.offset())
    return "not valid JSON: a comma stands before a closing bracket; take that comma out";
  if (text.substr(stopped).starts_with('\''))
    return "not valid JSON: single quotes, as Python prints a dict; write it with json.dumps";
  if (const std::string_view word = foreign_word_at(text, error.offset()); !word.empty())
    return fmt::format("not valid JSON: {} is no value of JSON; write null, true, false or a number", word);
  if (is_line) {
    const std::string_view rest = behind_first_value(text.substr(0, text.size()));
    if (rest.starts_with(',') && rest.find_first_not_of(", \t\r\n") == std::string_view::npos)
      return "not valid JSON: a comma follows the object; lines of JSONL end without one (or put the whole "
             "file into "
             "[ ])";
    if (rest.starts_with('{') || rest.starts_with('['))
      return "not valid JSON: a second value follows on the same line; give each sample a line of its own";
  }
  const bool cut_off = error.offset() >= text.size();
  return fmt::format(
      "{}{}", error.what(),
      is_line && cut_off ? "; each line must hold one whole JSON object (or the file one JSON array)" : "");
}

}  // namespace

std::string describe_json_problem(std::string_view text, const JsonError& error, bool is_line) {
  if (error.kind() == Kind::nul_byte) {
    const bool all =
        std::all_of(text.begin(), text.end(), [](char c) { return c == '\0' || is_json_space(c); });
    return all ? "there are NUL bytes instead of a sample, as after a crash of the host; cut them off, or "
                 "write the "
                 "file again"
               : "it holds a NUL byte, so it is not JSON; write the file again, as UTF-8";
  }
  if (error.kind() == Kind::syntax && std::string_view(error.what()).find("UTF-8") != std::string_view::npos)
    return fmt::format("{}; convert the file to UTF-8", error.what());
  if (error.kind() == Kind::syntax) return describe_syntax(text, error, is_line);
  return error.what();
}

std::string_view wide_encoding_of(std::string_view begin) {
  using std::string_view_literals::operator""sv;
  if (begin.starts_with("\xFF\xFE\0\0"sv) || begin.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (begin.starts_with("\xFF\xFE"sv) || begin.starts_with("\xFE\xFF"sv)) return "UTF-16";
  // Without a byte order mark: the first characters of JSON are of ASCII.
  if (begin.size() < 4) return {};
  const auto zero = [&](std::size_t i) { return begin[i] == '\0'; };
  if ((zero(0) && zero(1) && zero(2) && !zero(3)) || (!zero(0) && zero(1) && zero(2) && zero(3)))
    return "UTF-32";
  if ((zero(0) && !zero(1) && zero(2) && !zero(3)) || (!zero(0) && zero(1) && !zero(2) && zero(3)))
    return "UTF-16";
  return {};
}

}  // namespace autoglm
