// Substitutes know LibTorch's kernels by their names and the layout of their arguments, which was measured on the wheel
// of 2.11.0 that the project pins: they say what a kernel means, and hold none of its code.
#pragma once

#include <string>
#include <string_view>

#include "tests/cuda_on_host/runtime/kernels.h"

namespace cuda_on_host::aten {

inline bool contains(const std::string& text, std::string_view piece) {
  return text.find(piece) != std::string::npos;
}

inline bool starts_with(const std::string& text, std::string_view piece) {
  return text.compare(0, piece.size(), piece) == 0;
}

}  // namespace cuda_on_host::aten
