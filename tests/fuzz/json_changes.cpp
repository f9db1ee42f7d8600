#include "tests/fuzz/json_changes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace autoglm::fuzz {
namespace {

using json = nlohmann::ordered_json;
using Random = std::mt19937_64;

constexpr const char* kValues[] = {"null",
                                   "true",
                                   "false",
                                   "0",
                                   "1",
                                   "-1",
                                   "2",
                                   "7",
                                   "1.5",
                                   "-0.0",
                                   "1e308",
                                   "1e-320",
                                   "2147483647",
                                   "2147483648",
                                   "4294967296",
                                   "9223372036854775807",
                                   "9223372036854775808",
                                   "18446744073709551615",
                                   "-9223372036854775808",
                                   "\"\"",
                                   "\"x\"",
                                   "\"\\u0000\"",
                                   "\"\\u00e9\\ud83d\\ude00\"",
                                   "[]",
                                   "{}",
                                   "[[]]",
                                   "{\"a\": 1}"};

std::size_t below(Random& random, std::size_t end) {
  return end == 0 ? 0 : random() % end;
}

void collect(json& value, std::vector<json*>& all) {
  all.push_back(&value);
  if (!value.is_structured()) return;
  for (json& one : value) collect(one, all);
}

json other_value(const std::vector<json*>& all, const std::vector<std::string>& words, Random& random) {
  const std::size_t which = below(random, 4);
  if (which == 0) return *all[below(random, all.size())];
  if (which == 1 && !words.empty()) {
    json word = json::parse(words[below(random, words.size())], nullptr, false);
    if (!word.is_discarded()) return word;
  }
  return json::parse(kValues[below(random, std::size(kValues))]);
}

// Some name of the words or of what is there.
std::string name_from(const std::vector<json*>& all, const std::vector<std::string>& words, Random& random) {
  const json word = words.empty() ? json() : json::parse(words[below(random, words.size())], nullptr, false);
  if (word.is_string() && below(random, 2) == 0) return word.get<std::string>();
  const json& some = *all[below(random, all.size())];
  if (some.is_object() && !some.empty())
    return std::next(some.begin(), static_cast<int>(below(random, some.size()))).key();
  return some.is_string() ? some.get<std::string>() : "x";
}

void change_scalar(json& value, const std::vector<json*>& all, const std::vector<std::string>& words,
                   Random& random) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    const std::uint64_t changed[] = {number + 1, number - 1, number * 2, number / 2, ~number, number << 32};
    value = changed[below(random, std::size(changed))];
  } else if (value.is_string()) {
    auto text = value.get<std::string>();
    const std::string other = name_from(all, words, random);
    text.insert(below(random, 2) == 0 ? text.size() : 0, below(random, 2) == 0 ? other : text.substr(0, 8));
    value = std::move(text);
  } else {
    value = other_value(all, words, random);
  }
}

void change_members(json& value, const std::vector<json*>& all, const std::vector<std::string>& words,
                    Random& random) {
  const std::size_t place = below(random, value.size());
  // Before anything changes, for these lie within it.
  json other = other_value(all, words, random);
  const std::string name = name_from(all, words, random);
  if (value.is_array()) {
    if (below(random, 2) == 0 && !value.empty())
      value.erase(place);
    else
      value.insert(value.begin() + static_cast<std::ptrdiff_t>(place), std::move(other));
  } else if (below(random, 2) == 0 && !value.empty()) {
    const auto member = std::next(value.begin(), static_cast<std::ptrdiff_t>(place));
    json moved = *member;
    value.erase(member);
    if (below(random, 2) == 0) value[name] = std::move(moved);
  } else {
    value[name] = std::move(other);
  }
}

}  // namespace

std::string change_json(std::string_view text, const std::vector<std::string>& words,
                        std::mt19937_64& random) {
  json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) return std::string(text);
  std::vector<json*> all;
  collect(root, all);
  json& value = *all[below(random, all.size())];
  if (value.is_structured() && below(random, 4) != 0)
    change_members(value, all, words, random);
  else if (below(random, 2) == 0)
    change_scalar(value, all, words, random);
  else
    value = other_value(all, words, random);
  // As it was written: a manifest has one value a line.
  const bool has_lines = text.ends_with("\n}\n");
  return root.dump(has_lines ? 1 : -1, ' ', false, json::error_handler_t::replace) + (has_lines ? "\n" : "");
}

}  // namespace autoglm::fuzz
