#include "trainer/data/data_file_problem.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "base/nearest_name.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

struct ForeignFormat {
  std::string_view bytes;
  std::string_view name;
  std::size_t offset = 0;
};
constexpr std::array kForeignFormats{
    ForeignFormat{"\x1f\x8b", "a gzip file"},
    ForeignFormat{"\x28\xb5\x2f\xfd", "a Zstandard file"},
    ForeignFormat{"\xfd\x37zXZ", "an xz file"},
    ForeignFormat{"BZh", "a bzip2 file"},
    ForeignFormat{"\x04\x22\x4d\x18", "an lz4 file"},
    ForeignFormat{"\x1f\x9d", "a compress file"},
    ForeignFormat{"\xff\x06\0\0sNaPpY"sv, "a snappy file"},
    ForeignFormat{"PK\x03\x04", "a zip file"},
    ForeignFormat{"PK\x05\x06", "a zip file"},
    ForeignFormat{"7z\xbc\xaf\x27\x1c", "a 7z file"},
    ForeignFormat{"Rar!\x1a\x07", "a rar file"},
    ForeignFormat{"ustar", "a tar file", 257},
    ForeignFormat{"PAR1", "a Parquet file"},
    ForeignFormat{"ARROW1", "an Arrow file"},
    ForeignFormat{"\xff\xff\xff\xff", "an Arrow stream"},
    ForeignFormat{"Obj\x01", "an Avro file"},
    ForeignFormat{"ORC", "an ORC file"},
    ForeignFormat{"\x89HDF\r\n", "an HDF5 file"},
    ForeignFormat{"\x93NUMPY", "a NumPy file"},
    ForeignFormat{"SQLite format 3", "an SQLite database"},
    ForeignFormat{"%PDF-", "a PDF file"},
    ForeignFormat{"\x7f"
                  "ELF",
                  "a program"},
    ForeignFormat{"GGUF", "a model in GGUF"},
};

bool is_pickle(std::string_view begin) {
  return begin.size() > 2 && begin[0] == '\x80' && begin[1] >= 2 && begin[1] <= 5;
}

// The length of a header of JSON, in eight bytes, before it.
bool is_safetensors(std::string_view begin) {
  return begin.size() > 9 && begin.substr(5, 3) == "\0\0\0"sv && begin.substr(8, 2) == "{\"";
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  std::ranges::sort(names);
  return names;
}

// Parts between commas or semicolons that are files each.
bool is_list_of_files(std::string_view text) {
  if (text.find_first_of(",;") == std::string_view::npos) return false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(",;"), text.size());
    if (end > 0 && !is_there(std::string(text.substr(0, end)))) return false;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return true;
}

std::optional<std::string> without_quotes(std::string_view text) {
  for (const std::string_view mark : {"'", "\"", "`", "\u201C", "\u2018"}) {
    const std::string_view end = mark == "\u201C" ? "\u201D" : mark == "\u2018" ? "\u2019" : mark;
    if (text.size() > mark.size() + end.size() && text.starts_with(mark) && text.ends_with(end))
      return std::string(text.substr(mark.size(), text.size() - mark.size() - end.size()));
  }
  return std::nullopt;
}

// Two parts, and no folder of the first one's name: as data sets on the hub are called.
bool is_name_on_hub(const fs::path& path) {
  const std::string text = path.string();
  return std::ranges::count(text, '/') == 1 && text.front() != '.' && text.front() != '/' &&
         !path.has_extension() && !is_there(path.parent_path());
}

std::string describe_spelling(const fs::path& path) {
  const std::string text = path.string();
  constexpr std::string_view fetch =
      "data is read from files of this host: fetch it first, then name the file";
  if (text.starts_with("file:")) return "give the path alone, without \"file://\"";
  if (text.find(":/") != std::string::npos && text.find(":/") > 1)
    return fmt::format("it is an address, and {}", fetch);
  if (text.starts_with('~')) return "\"~\" was not expanded: write the home folder's path in full";
  if (text.find('$') != std::string::npos)
    return "the variable in it was not expanded: write the path in full";
  if (text == "-") return "standard input is not read: write it to a file first";
  if (const auto plain = without_quotes(text); plain && is_there(*plain))
    return fmt::format("there is {}, without the quotes", *plain);
  if (is_list_of_files(text)) return "several names are separated by blanks, without commas";
  if (text.starts_with('[') && text.ends_with(']'))
    return "several names are separated by blanks, without brackets";
  if (text.find_first_of("*?") != std::string::npos)
    return "no file was found for the pattern (only a shell expands one, and a file of settings does not)";
  if (is_name_on_hub(path))
    return fmt::format(
        "if it is a data set on the hub, \"hf download --repo-type dataset {} --local-dir DIR\" fetches it",
        text);
  return {};
}

}  // namespace

std::string foreign_format_of(std::string_view begin) {
  for (const ForeignFormat& format : kForeignFormats) {
    if (begin.size() > format.offset && begin.substr(format.offset).starts_with(format.bytes))
      return std::string(format.name);
  }
  if (is_pickle(begin)) return "a pickle of Python's";
  if (is_safetensors(begin)) return "a safetensors file";
  return {};
}

std::string describe_unopened(const fs::path& path, int error_number) {
  const std::string reason = std::strerror(error_number);
  if (error_number != ENOENT && error_number != ENOTDIR) return reason;
  if (const std::string spelling = describe_spelling(path); !spelling.empty())
    return fmt::format("{}; {}", reason, spelling);
  std::error_code ignored;
  if (fs::is_symlink(path, ignored))
    return fmt::format("it is a link to {}, which is not there", fs::read_symlink(path, ignored).string());
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::vector<std::string> names = names_in(folder);
  if (const auto nearest = nearest_name(path.filename().string(), names))
    return fmt::format("{}; did you mean {}?", reason, (path.parent_path() / *nearest).string());
  if (!is_there(folder)) return fmt::format("{}: there is no folder {}", reason, folder.string());
  return reason;
}

std::string describe_irregular(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return "is not a regular file; --data takes JSONL and JSON files";
  constexpr std::size_t kShown = 3;
  std::vector<std::string> files;
  for (const std::string& name : names_in(path)) {
    if (name.ends_with(".jsonl") || name.ends_with(".json")) files.push_back((path / name).string());
  }
  const std::string rest = files.size() > kShown ? fmt::format(" and {} more", files.size() - kShown) : "";
  if (files.size() > kShown) files.resize(kShown);
  if (files.empty())
    return "is not a regular file but a folder, in which no .jsonl or .json file lies; --data takes JSONL "
           "and JSON files";
  return fmt::format("is not a regular file but a folder; --data takes files: give those in it, {}{}",
                     fmt::join(files, " "), rest);
}

}  // namespace autoglm
