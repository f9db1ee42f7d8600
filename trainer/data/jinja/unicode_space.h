// White space as Python's str.strip() sees it, which is what templates mean by trim.
#pragma once

#include <string_view>

namespace autoglm {

std::string_view strip_space_left(std::string_view text);
std::string_view strip_space_right(std::string_view text);
inline std::string_view strip_space(std::string_view text) {
  return strip_space_left(strip_space_right(text));
}

}  // namespace autoglm
