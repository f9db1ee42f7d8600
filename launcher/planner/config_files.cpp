#include "launcher/planner/config_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "base/nearest_name.h"

namespace autoglm {

std::vector<std::filesystem::path> list_config_files(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  if (error) fail(ExitCode::missing_input, "{} cannot be read: {}", directory.string(), error.message());
  if (files.empty()) fail(ExitCode::missing_input, "{} holds no .json file", directory.string());
  std::sort(files.begin(), files.end());
  return files;
}

std::string comparable_name(std::string_view name) {
  std::string result(name);
  for (char& character : result) {
    const bool joins = character == ' ' || character == '_';
    character = joins ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  }
  return result;
}

void fail_unknown_name(std::string_view kind, std::string_view name, const std::vector<std::string>& known,
                       const std::vector<std::string>& also_known) {
  std::vector<std::string> all = known;
  all.insert(all.end(), also_known.begin(), also_known.end());
  const std::optional<std::string> meant = nearest_name(comparable_name(name), all);
  fail(ExitCode::usage, "there is no {} \"{}\"{}; known are {}", kind, name,
       meant ? fmt::format(" (did you mean {}?)", *meant) : "", fmt::join(known, ", "));
}

}  // namespace autoglm
