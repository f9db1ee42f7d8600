// Substitutes know LibTorch's kernels by their names and the layout of their arguments, which was measured on the wheel
// of 2.11.0 that the project pins: they say what a kernel means, and hold none of its code.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/kernels.h"

namespace cuda_on_host::aten {

// An argument as the program gave it, with the addresses that it sees.
template <typename T>
T raw_argument(void** arguments, int i) {
  T value;
  std::memcpy(static_cast<void*>(&value), arguments[i], sizeof value);
  return value;
}

// Throws unless these bytes lie in memory of a card: where LibTorch lays its arguments out otherwise, what is taken for
// an operand or for its size is something else, and nothing may be computed with it.
inline void require_operand(const void* data, std::size_t bytes) {
  if (bytes > 0 && cuda_on_host_covers(data, bytes, -1)) return;
  throw std::runtime_error(
      "arguments of another layout than that of LibTorch 2.11, which the substitutes know");
}

inline bool contains(const std::string& text, std::string_view piece) {
  return text.find(piece) != std::string::npos;
}

inline bool starts_with(const std::string& text, std::string_view piece) {
  return text.compare(0, piece.size(), piece) == 0;
}

}  // namespace cuda_on_host::aten
