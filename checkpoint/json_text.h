// The place of a value in the text of JSON, so that one value can be changed and every other byte kept.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <string_view>

namespace autoglm {

struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;  // one past the last byte
};

// The bytes of the value at the nested keys `path` ({"metadata", "total_size"}) in the text of a JSON object
// that parse_json accepts. Nothing when there is no such value.
std::optional<TextRange> locate_json_value(std::string_view text,
                                           std::initializer_list<std::string_view> path);

}  // namespace autoglm
