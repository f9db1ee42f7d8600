// Settings in a file: one `name = value` a line, spelled as on the command line without the dashes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

struct IniEntry {
  std::string name;
  std::string value;      // without the blanks around it and the double quotes that enclose it
  bool enclosed = false;  // the value stood in double quotes, so it is one value whatever blanks it holds
  int line = 0;           // from 1
};

// Entries in file order. Empty lines and lines that begin with # or ; are skipped; behind a blank, # begins a
// comment. A value in double quotes is taken as it stands. Throws Error(missing_input) when the file cannot
// be read, Error(usage) with file and line for anything else that is not `name = value`.
std::vector<IniEntry> read_ini_file(const std::filesystem::path& path);

// The same from text; `path` is for messages.
std::vector<IniEntry> parse_ini(std::string_view text, const std::string& path);

// Throws Error(missing_input) where the words of `value`, which are names of files, look like one name in pieces: the
// file of one is not there, and nothing in the value keeps its blanks together. The sentence begins with `option` and
// says how to write it. The same for one name in single quotes, which mean nothing here.
void check_file_names(const std::vector<std::string>& words, std::string_view value, std::string_view option);

// Words of a value that holds several: split at blanks, double quotes keep blanks together. Throws
// Error(usage) that begins with `option` when a quote is not closed.
std::vector<std::string> split_words(std::string_view value, std::string_view option);

// Refuses words in single quotes, which would go into the value: names of files and prompts, in the first place.
// Throws Error(usage).
void check_quotes(const std::vector<std::string>& words, std::string_view option);

}  // namespace autoglm
