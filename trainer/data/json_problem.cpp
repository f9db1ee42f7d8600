#include "trainer/data/json_problem.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "trainer/data/tokenizer/utf8.h"

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

// What can be shown in a sentence of the beginning of a text.
std::string printable(std::string_view text) {
  constexpr std::size_t kShown = 40;
  std::string shown;
  for (const char c : text.substr(0, kShown)) {
    if (static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7F) shown += c;
  }
  return shown;
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

// The character that stands at `at`, as people know it: "U+00A0". Empty where it is one that is seen.
std::string unseen_character_at(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {};
  const std::size_t invalid = utf8::find_invalid(text.substr(at)).value_or(text.size());
  if (invalid == 0) return {};
  const char32_t code = utf8::decode(text, at).code_point;
  const bool control = code < 0x20 || code == 0x7F || (code >= 0x80 && code < 0xA0);
  const bool space = code == 0xA0 || (code >= 0x2000 && code <= 0x200F) || code == 0x2028 || code == 0x2029 ||
                     code == 0x202F || code == 0x2060 || code == 0x3000 || code == 0xFEFF;
  return control || space ? fmt::format("U+{:04X}", static_cast<std::uint32_t>(code)) : std::string();
}

bool is_inside_string(std::string_view text, std::size_t at) {
  bool quoted = false;
  for (std::size_t i = 0; i < std::min(at, text.size()); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    }
  }
  return quoted;
}

// What is wrong at a place inside a string; empty where it is nothing known.
std::string describe_in_string(std::string_view text, std::size_t at) {
  if (at >= text.size()) return {};
  const char character = text[at];
  if (at > 0 && text[at - 1] == '\\') {
    return fmt::format(
        "not valid JSON: \\{} at character {} is no escape of JSON; a backslash in a text is written \\\\",
        character, at);
  }
  if (static_cast<unsigned char>(character) < 0x20) {
    const std::string_view escape = character == '\t'   ? "\\t"
                                    : character == '\r' ? "\\r"
                                    : character == '\n' ? "\\n"
                                                        : "";
    return fmt::format("not valid JSON: a control character (U+{:04X}) stands in a text at character {}; {}",
                       static_cast<unsigned>(character), at + 1,
                       escape.empty() ? std::string("take it out") : fmt::format("write it {}", escape));
  }
  return {};
}

// What the parser stumbled over at this place outside of strings; empty where it is nothing known.
std::string describe_foreign_notation(std::string_view text, std::size_t at) {
  const std::string_view rest = text.substr(std::min(at, text.size()));
  if (rest.starts_with('\''))
    return "not valid JSON: single quotes, as Python prints a dict; write it with json.dumps";
  if (rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#'))
    return fmt::format("not valid JSON: a comment stands at character {}; JSON has none: take it out",
                       at + 1);
  if (rest.starts_with("\u201C") || rest.starts_with("\u201D") || rest.starts_with("\u2018") ||
      rest.starts_with("\u2019"))
    return fmt::format("not valid JSON: typographic quotes stand at character {}; write plain ones: \"",
                       at + 1);
  if (const std::string unseen = unseen_character_at(text, at); !unseen.empty())
    return fmt::format(
        "not valid JSON: a character that is not seen, {}, stands at character {}; take it out", unseen,
        at + 1);
  return {};
}

// What a line is that does not even begin as JSON does; empty where it does.
std::string describe_foreign_line(std::string_view line) {
  while (!line.empty() && is_json_space(line.front())) line.remove_prefix(1);
  if (line.empty() || std::string_view("{[\"-0123456789").find(line.front()) != std::string_view::npos) {
    const bool list = line.starts_with("- ") || line.starts_with("---");
    const bool columns = line.starts_with('"') && line.find("\",") != std::string_view::npos;
    if (list) return "not JSON but YAML; convert it to JSON, one object on each line";
    return columns ? "not JSON but columns, as of CSV; convert the file to JSONL, one object on each line"
                   : std::string();
  }
  if (line.starts_with("version https://git-lfs"))
    return "a Git LFS pointer instead of the data; fetch the file with \"git lfs pull\"";
  if (line.starts_with("<<<<<<<")) return "a mark of a merge conflict; solve the conflict in the file";
  if (line.starts_with('<'))
    return "not JSON but XML or a page of the web, as where a download was refused; fetch the file again";
  const std::string_view first = line.substr(0, line.find_first_of("{["));
  const bool columns = first.size() == line.size() && line.find_first_of(",\t;") != std::string_view::npos;
  if (columns)
    return "not JSON, but text or columns, as of CSV; convert the file to JSONL: one object on each line, "
           "such as {\"prompt\": \"...\", \"completion\": \"...\"}";
  if (first.size() < line.size() && first.size() < 40)
    return fmt::format("not valid JSON: '{}' stands before the object; take it out", printable(first));
  return "not JSON but plain text; write it as JSONL: one object on each line, such as {\"text\": \"...\"}";
}

std::string describe_line(std::string_view text, const JsonError& error) {
  const std::string_view rest = behind_first_value(text);
  if (rest.starts_with(',') && rest.find_first_not_of(", \t\r\n") == std::string_view::npos)
    return "not valid JSON: a comma follows the object; lines of JSONL end without one (or put the whole "
           "file into [ ])";
  if (rest.starts_with('{') || rest.starts_with('['))
    return "not valid JSON: a second value follows on the same line; give each sample a line of its own";
  if (rest.starts_with('}') || rest.starts_with(']'))
    return "not valid JSON: a closing bracket too many stands behind the object; take it out";
  if (!rest.empty() && error.offset() + rest.size() >= text.size())
    return fmt::format("not valid JSON: '{}' follows the object; take it out", printable(rest));
  if (error.offset() <= text.size()) return {};
  // The end of the line came too early.
  if (is_inside_string(text, text.size()))
    return "not valid JSON: the line ends inside of a text: the file is cut off there, a quote is missing, "
           "or a line break in the text is not written as \\n; each line must hold one whole JSON object (or "
           "the file "
           "one JSON array)";
  return "not valid JSON: the line ends before the object does: the file is cut off there, a bracket is "
         "missing, or the object goes over several lines (\"jq -c . OLD > NEW\" writes each on one); each "
         "line must hold "
         "one whole JSON "
         "object (or the file one JSON array)";
}

std::string describe_syntax(std::string_view text, const JsonError& error, bool is_line) {
  const std::size_t stopped = error.offset() > 0 ? std::min(error.offset() - 1, text.size()) : 0;
  if (const auto at = lone_surrogate(text); at && *at <= stopped) {
    return fmt::format(
        "the escape {} at character {} is a lone surrogate, half of a character; write the whole pair (such "
        "as \\ud83d\\ude00) or take it out",
        text.substr(*at, 6), *at + 1);
  }
  if (const auto comma = trailing_comma(text); comma && *comma < error.offset())
    return "not valid JSON: a comma stands before a closing bracket; take that comma out";
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos)
    return "a comma has no sample before it; take that comma out";
  const bool in_string = is_inside_string(text, stopped);
  std::string problem =
      in_string ? describe_in_string(text, stopped) : describe_foreign_notation(text, stopped);
  if (!problem.empty()) return problem;
  if (const std::string_view word = foreign_word_at(text, error.offset()); !word.empty() && !in_string)
    return fmt::format("not valid JSON: {} is no value of JSON; write null, true, false or a number", word);
  problem = describe_foreign_line(text);
  if (problem.empty() && is_line) problem = describe_line(text, error);
  if (!problem.empty()) return problem;
  const std::string what = error.what();
  if (what.ends_with("(expected '}')") || what.ends_with("(expected ']')"))
    return fmt::format("{}: a comma is missing there, or a quote inside of a text is not written as \\\"",
                       what);
  if (what.ends_with("(expected string literal)"))
    return fmt::format("{}: names stand in double quotes", what);
  return what;
}

// NUL bytes between the others are the halves of wider characters.
std::string_view wide_encoding_within(std::string_view text) {
  const auto zeros = static_cast<std::size_t>(std::ranges::count(text, '\0'));
  if (zeros == text.size() || zeros * 3 < text.size()) return {};
  return zeros * 3 >= text.size() * 2 ? "UTF-32" : "UTF-16";
}

std::string describe_bad_bytes(std::string_view text) {
  const std::size_t at = utf8::find_invalid(text).value_or(0);
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  if (byte(at) == 0xED && byte(at + 1) >= 0xA0)
    return "it is not valid UTF-8: it holds half of a surrogate pair as three bytes (CESU-8); convert the "
           "file to UTF-8";
  if ((byte(at) == 0xFF && byte(at + 1) == 0xFE) || (byte(at) == 0xFE && byte(at + 1) == 0xFF))
    return "it is not valid UTF-8: UTF-16 begins there, as PowerShell's >> writes it behind other text; "
           "convert the file "
           "to UTF-8 part by part";
  return fmt::format(
      "it is not valid UTF-8; convert the file to UTF-8 (the byte 0x{:02X} stands at {}: with "
      "\"iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW\", or from GB18030, SHIFT_JIS, ... as it was written)",
      byte(at), at + 1);
}

}  // namespace

std::string describe_json_problem(std::string_view text, const JsonError& error, bool is_line) {
  if (error.kind() == Kind::nul_byte) {
    if (std::ranges::all_of(text, [](char c) { return c == '\0' || is_json_space(c); }))
      return "there are NUL bytes instead of a sample, as after a crash of the host; cut them off, or write "
             "the file again";
    if (const std::string_view encoding = wide_encoding_within(text); !encoding.empty())
      return fmt::format(
          "it holds a NUL byte beside most of its characters, so it is written in {}, unlike what stands "
          "before it; convert "
          "the file to UTF-8 part by part",
          encoding);
    return "it holds a NUL byte, so it is not JSON; write the file again, as UTF-8";
  }
  if (error.kind() == Kind::syntax && utf8::find_invalid(text)) return describe_bad_bytes(text);
  if (error.kind() == Kind::number_too_large)
    return fmt::format("{}: the number is too large; write it as a text, or take the field out",
                       error.what());
  if (error.kind() == Kind::syntax) return describe_syntax(text, error, is_line);
  return error.what();
}

std::string_view wide_encoding_of(std::string_view begin) {
  using std::string_view_literals::operator""sv;
  if (begin.starts_with("\xFF\xFE\0\0"sv) || begin.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (begin.starts_with("\xFF\xFE"sv) || begin.starts_with("\xFE\xFF"sv)) return "UTF-16";
  // Without a byte order mark: the first characters of JSON are of ASCII. Numbers of binary files look like one
  // such character of UTF-32, never like two.
  const auto zeros_are = [&](std::string_view pattern, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      if ((begin[i] == '\0') != (pattern[i % pattern.size()] == '0')) return false;
    }
    return begin.size() >= 4;
  };
  const std::size_t most = std::min<std::size_t>(8, begin.size() / 4 * 4),
                    least = std::min<std::size_t>(4, most);
  if (zeros_are("000x", most) || zeros_are("x000", most)) return "UTF-32";
  if (zeros_are("0x", least) || zeros_are("x0", least)) return "UTF-16";
  return {};
}

}  // namespace autoglm
