// Where elements of strided operands lie, as LibTorch's kernels are told.
#pragma once

#include <array>
#include <cstdint>

namespace cuda_on_host::aten {

struct Divider {
  std::uint32_t divisor, magic, shift;
};

// Of N operands; in bytes.
template <int N>
struct Offsets {
  static constexpr int kMostDimensions = 25;

  int dimensions;
  Divider sizes[kMostDimensions];
  std::uint32_t strides[kMostDimensions][N];

  std::array<std::uint32_t, N> of(std::uint32_t element) const {
    std::array<std::uint32_t, N> offsets{};
    for (int d = 0; d < dimensions; ++d) {
      const std::uint32_t rest = element / sizes[d].divisor, here = element - rest * sizes[d].divisor;
      for (int n = 0; n < N; ++n) offsets[n] += here * strides[d][n];
      element = rest;
    }
    return offsets;
  }
};

}  // namespace cuda_on_host::aten
