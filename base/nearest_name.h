// Guessing which name a person meant.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace autoglm {

// Damerau-Levenshtein distance in its restricted form (optimal string alignment): insertions, deletions,
// substitutions and swaps of neighbours, bytes compared.
std::size_t edit_distance(std::string_view left, std::string_view right);

// The name of `names` that `given` most likely stands for: the nearest by edit distance when that is small
// for its length, one that `given` begins or spells by its initials (lr for learning-rate) otherwise. Case
// and underscores do not count. None when nothing is near.
std::optional<std::string> nearest_name(std::string_view given, std::span<const std::string> names);

}  // namespace autoglm
