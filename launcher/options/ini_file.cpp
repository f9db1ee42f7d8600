#include "launcher/options/ini_file.h"

#include <cstring>

#include "base/error.h"
#include "base/regular_file.h"
#include "launcher/options/option_values.h"

namespace autoglm {
namespace {

constexpr std::size_t kLargestFile = 1 << 20;
constexpr std::string_view kBlanks = " \t\r";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// `text` up to a # that follows a blank and stands outside double quotes.
std::string_view without_comment(std::string_view text) {
  bool inside_quotes = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') inside_quotes = !inside_quotes;
    const bool after_blank = i == 0 || kBlanks.find(text[i - 1]) != std::string_view::npos;
    if (text[i] == '#' && after_blank && !inside_quotes) return text.substr(0, i);
  }
  return text;
}

IniEntry parse_entry(std::string_view line, const std::string& path, int number) {
  const std::size_t equals = line.find('=');
  const std::string_view name = trimmed(line.substr(0, equals));
  if (line.front() == '[')
    fail(ExitCode::usage, "{}:{}: sections such as {} are not used; write name = value", path, number,
         in_quotes(line));
  if (equals == std::string_view::npos || name.empty())
    fail(ExitCode::usage, "{}:{}: expected name = value; got {}", path, number, in_quotes(line));
  std::string_view value = trimmed(without_comment(line.substr(equals + 1)));
  const bool enclosed = value.size() >= 2 && value.front() == '"' && value.find('"', 1) == value.size() - 1;
  if (enclosed) value = value.substr(1, value.size() - 2);
  return {std::string(name), std::string(value), enclosed, number};
}

}  // namespace

std::vector<IniEntry> parse_ini(std::string_view text, const std::string& path) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<IniEntry> entries;
  if (text.find('\0') != std::string_view::npos)
    fail(ExitCode::usage, "{}: holds NUL bytes, as a file in UTF-16 does; write it again, as UTF-8", path);
  // Old editors of the Macintosh end lines so.
  const char line_end = text.find('\n') == std::string_view::npos ? '\r' : '\n';
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find(line_end);
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!line.empty() && line.front() != '#' && line.front() != ';')
      entries.push_back(parse_entry(line, path, number));
  }
  return entries;
}

std::vector<IniEntry> read_ini_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    fail(ExitCode::missing_input, "--config: {} is a folder; name a file", path.string());
  if (const RegularFile file = RegularFile::open(path); !file.is_open()) {
    fail(ExitCode::missing_input, "--config: cannot read {}: {}", path.string(),
         file.error() == 0 ? "it is not a regular file" : std::strerror(file.error()));
  }
  if (std::filesystem::file_size(path, ignored) > kLargestFile && !ignored)
    fail(ExitCode::usage, "--config: {} is larger than 1 MiB, so it cannot be a file of settings",
         path.string());
  return parse_ini(read_text_file(path, kLargestFile), path.string());
}

void check_file_names(const std::vector<std::string>& words, std::string_view value,
                      std::string_view option) {
  std::error_code ignored;
  const auto exists = [&](std::string_view name) {
    return std::filesystem::exists(std::string(name), ignored);
  };
  if (exists(value) && words.size() == 1) return;
  std::string plain(value);
  const bool single_quotes = value.size() > 2 && value.front() == '\'' && value.back() == '\'';
  if (single_quotes) plain = value.substr(1, value.size() - 2);
  const bool backslashes = plain.find("\\ ") != std::string::npos;
  for (std::size_t at = plain.find("\\ "); at != std::string::npos; at = plain.find("\\ ", at))
    plain.erase(at, 1);
  if (words.size() == 1 && !((single_quotes || backslashes) && exists(plain))) return;
  for (const std::string& word : words) {
    // Half a path has seldom an extension. What has one may be the name of a file that is missing.
    const bool is_piece = word.find('/') != std::string::npos && !std::filesystem::path(word).has_extension();
    if (exists(word) || (!exists(plain) && !is_piece)) continue;
    if (single_quotes || backslashes || words.size() == 1)
      fail(ExitCode::missing_input,
           "{}: there is no file {}; {} here: a name with blanks stands in double quotes, as in \"{}\"",
           option, in_quotes(word),
           single_quotes ? "single quotes mean nothing" : "a backslash means nothing", plain);
    fail(ExitCode::missing_input,
         "{}: there is no file {}; the value is read as {} names, for a name with blanks stands in double "
         "quotes, as in \"{}\"",
         option, in_quotes(word), words.size(), exists(plain) ? plain : "my data.jsonl");
  }
}

void check_quotes(const std::vector<std::string>& words, std::string_view option) {
  for (const std::string& word : words) {
    if (word.size() < 2 || word.front() != '\'' || word.back() != '\'') continue;
    fail(ExitCode::usage,
         "{}: single quotes mean nothing here and would be part of {}; leave them out, or enclose the value "
         "in double quotes",
         option, in_quotes(word));
  }
}

std::vector<std::string> split_words(std::string_view value, std::string_view option) {
  std::vector<std::string> words;
  bool inside_quotes = false, inside_word = false;
  for (const char character : value) {
    const bool blank = kBlanks.find(character) != std::string_view::npos;
    if (character == '"') inside_quotes = !inside_quotes;
    if (blank && !inside_quotes) {
      inside_word = false;
      continue;
    }
    if (!inside_word) words.emplace_back();
    inside_word = true;
    if (character != '"') words.back() += character;
  }
  if (inside_quotes)
    fail(ExitCode::usage, "{}: a double quote is not closed in {}", option, in_quotes(value));
  return words;
}

}  // namespace autoglm
