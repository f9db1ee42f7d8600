// The text of --help and --version.
#include <algorithm>

#include "base/error.h"
#include "launcher/options/option_table.h"

namespace autoglm {
namespace {

constexpr std::size_t kLeastHelpColumns = 20;
constexpr std::size_t kIndent = 2;

// "--learning-rate RATE"
std::string left_column(const Option& option) {
  std::string text = "--" + option.name;
  if (!option.value_name.empty()) text += " " + option.value_name;
  if (option.arity == OptionArity::several) text += "...";
  if (option.name == "help") text = "-h, " + text;
  return text;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t columns) {
  std::vector<std::string> lines(1);
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > columns) lines.emplace_back();
    if (!lines.back().empty()) lines.back() += ' ';
    lines.back() += word;
  }
  return lines;
}

std::string option_lines(const Option& option, std::size_t help_column, std::size_t columns) {
  std::string left(kIndent, ' ');
  left += left_column(option);
  std::string help = option.help;
  if (!option.default_text.empty()) help += " [" + option.default_text + "]";
  std::string text;
  for (const std::string& line :
       wrapped(help, std::max(columns, help_column + kLeastHelpColumns) - help_column)) {
    left.resize(help_column, ' ');
    text += left + line + "\n";
    left.clear();
  }
  return text;
}

}  // namespace

std::string OptionTable::help(std::size_t columns) const {
  std::size_t widest = 0;
  std::vector<std::string> groups;
  for (const Entry& entry : entries_) {
    widest = std::max(widest, left_column(entry.option).size());
    if (std::find(groups.begin(), groups.end(), entry.group) == groups.end()) groups.push_back(entry.group);
  }
  // The constructor's group comes last in the text.
  std::rotate(groups.begin(), groups.begin() + 1, groups.end());
  std::string text;
  for (const std::string& line : wrapped("Usage: " + usage_, columns)) text += line + "\n";
  for (const std::string& line : wrapped(summary_, columns)) text += line + "\n";
  for (const std::string& group : groups) {
    text += "\n" + group + "\n";
    for (const Entry& entry : entries_)
      if (entry.group == group) text += option_lines(entry.option, kIndent + widest + 2, columns);
  }
  return text;
}

std::string version_text(std::string_view program, std::string_view libtorch_version, bool with_cuda) {
  return fmt::format("{} {} (LibTorch {}, {} build, CUDA: {})", program, AUTOGLM_VERSION, libtorch_version,
                     AUTOGLM_BUILD_TYPE, with_cuda ? "yes" : "no");
}

}  // namespace autoglm
