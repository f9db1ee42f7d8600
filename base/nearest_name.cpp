#include "base/nearest_name.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

namespace autoglm {
namespace {

std::string normalized(std::string_view name) {
  std::string result(name);
  for (char& character : result)
    character =
        character == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(character)));
  return result;
}

// "lr" for "learning-rate".
std::string initials(std::string_view name) {
  std::string result;
  for (std::size_t i = 0; i < name.size(); ++i)
    if (i == 0 || name[i - 1] == '-') result += name[i];
  return result;
}

}  // namespace

std::size_t edit_distance(std::string_view left, std::string_view right) {
  std::vector<std::size_t> before(right.size() + 1), above(right.size() + 1), row(right.size() + 1);
  std::iota(above.begin(), above.end(), std::size_t{0});
  for (std::size_t i = 1; i <= left.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= right.size(); ++j) {
      const std::size_t substituted = above[j - 1] + (left[i - 1] == right[j - 1] ? 0 : 1);
      row[j] = std::min({substituted, above[j] + 1, row[j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[right.size()];
}

std::optional<std::string> nearest_name(std::string_view given, std::span<const std::string> names) {
  const std::string wanted = normalized(given);
  if (wanted.empty()) return std::nullopt;
  const std::string* nearest = nullptr;
  std::size_t least = 1 + wanted.size() / 4;
  for (const std::string& name : names) {
    const std::size_t distance = edit_distance(wanted, normalized(name));
    if (distance < least || (distance == least && nearest == nullptr && distance < wanted.size())) {
      nearest = &name;
      least = distance;
    }
  }
  if (nearest != nullptr) return *nearest;
  for (const std::string& name : names)
    if (normalized(name).starts_with(wanted) || (wanted.size() > 1 && initials(name) == wanted)) return name;
  return std::nullopt;
}

}  // namespace autoglm
