// Where elements of strided operands lie, as LibTorch's kernels are told.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

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

  // Throws std::runtime_error if these cannot be the offsets of so many elements.
  void check(std::uint32_t elements) const {
    std::uint64_t all = 1;
    const bool known = dimensions >= 0 && dimensions <= kMostDimensions;
    for (int d = 0; known && d < dimensions; ++d) all *= sizes[d].divisor;
    if (!known || (dimensions > 0 && all < elements)) {
      throw std::runtime_error(
          "operands of another layout than that of LibTorch 2.11, which the substitutes know");
    }
  }

  // Bytes from the first element's to the last one's begin, of each operand.
  std::array<std::size_t, N> extents() const {
    std::array<std::size_t, N> extents{};
    for (int d = 0; d < dimensions; ++d) {
      for (int n = 0; n < N; ++n) extents[n] += std::size_t{sizes[d].divisor - 1} * strides[d][n];
    }
    return extents;
  }

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
