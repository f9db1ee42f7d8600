// Sums over rows on the CUDA route: gradients of biases, and the blocks' parts of any such sum.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

// Rows are summed by slabs of this many, and then the slabs: the same order always.
inline constexpr std::int64_t kSlabRows = 64;

// Block: kThreads columns of one slab of y [rows, width], summed into partial [slabs, width].
template <typename T>
struct SlabSums {
  const T* y;
  float* partial;
  std::int64_t rows;
  std::int64_t width;
  std::int64_t stride;  // from row to row of y

  static std::int64_t blocks(std::int64_t rows, std::int64_t width) {
    return blocks_for(rows, kSlabRows) * blocks_for(width, kThreads);
  }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t tiles = (width + kThreads - 1) / kThreads;
    const std::int64_t slab = block / tiles, begin = block % tiles * kThreads;
    const std::int64_t end = begin + kThreads < width ? begin + kThreads : width;
    const std::int64_t first = slab * kSlabRows;
    const std::int64_t last = first + kSlabRows < rows ? first + kSlabRows : rows;
    each(group, begin, end, [&](std::int64_t column) {
      float sum = 0;
      for (std::int64_t row = first; row < last; ++row) sum += load(y, row * stride + column);
      partial[slab * width + column] = sum;
    });
  }
};

// Block: kThreads columns; adds the slabs' sums to gradient [width], which counts as zero when it is fresh.
struct AddSlabs {
  const float* partial;
  float* gradient;
  std::int64_t slabs;
  std::int64_t width;
  bool fresh;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t begin = block * kThreads;
    each(group, begin, begin + kThreads < width ? begin + kThreads : width, [&](std::int64_t column) {
      float sum = fresh ? 0.0f : gradient[column];
      // Many loads at a time: there are few threads, and nothing else hides their latency.
#ifdef __CUDA_ARCH__
#pragma unroll 16
#endif
      for (std::int64_t slab = 0; slab < slabs; ++slab) sum += partial[slab * width + column];
      gradient[column] = sum;
    });
  }
};

}  // namespace autoglm::ops::cuda
