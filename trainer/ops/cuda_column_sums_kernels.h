// Sums over rows on the CUDA route: gradients of biases, and the blocks' parts of any such sum.
#pragma once

#include "trainer/ops/cuda_tiles.h"

namespace autoglm::ops::cuda {

// Rows are summed by slabs of this many, and then the slabs: the same order always.
inline constexpr std::int64_t kSlabRows = 64;

// y [rows, width], rows `stride` apart, summed by slabs into partial [slabs, width]. A thread takes neighbouring columns
// of one slab, which are a vector where they can be; the last columns of a slab and the first of the next share a block.
template <typename T>
struct SlabSums {
  const T* y;
  float* partial;
  std::int64_t rows;
  std::int64_t width;
  std::int64_t stride;
  bool vectors;

  SlabSums() = default;
  SlabSums(const T* from, float* to, std::int64_t num_rows, std::int64_t num_columns, std::int64_t row_stride)
      : y(from),
        partial(to),
        rows(num_rows),
        width(num_columns),
        stride(row_stride),
        vectors(hold_vectors(y, partial) && fill_vectors<T>(width, stride)) {}

  std::int64_t blocks() const { return blocks_for(items(), kThreads); }

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const std::int64_t begin = block * kThreads, all = items();
    const std::int64_t end = begin + kThreads < all ? begin + kThreads : all;
    // Of 32 bits: a matrix has 64 elements for each.
    const auto across = static_cast<std::uint32_t>(items_across());
    // One of a thread on the device, which would be compiled as four.
#ifdef __CUDA_ARCH__
#pragma unroll 1
#endif
    for (std::int64_t place = begin + group.rank(); place < end; place += group.size()) {
      const auto item = static_cast<std::uint32_t>(place), slab = item / across;
      if (vectors) {
        sum_slab<kVectorElements<T>>(slab, (item - slab * across) * kVectorElements<T>);
      } else {
        sum_slab<1>(slab, item - slab * across);
      }
    }
  }

 private:
  AUTOGLM_HOST_DEVICE std::int64_t items_across() const {
    return vectors ? width / kVectorElements<T> : width;
  }
  AUTOGLM_HOST_DEVICE std::int64_t items() const {
    return (rows + kSlabRows - 1) / kSlabRows * items_across();
  }

  template <int kCount>
  AUTOGLM_HOST_DEVICE void sum_slab(std::int64_t slab, std::int64_t column) const {
    const std::int64_t first = slab * kSlabRows;
    const std::int64_t last = first + kSlabRows < rows ? first + kSlabRows : rows;
    const T* from = y + first * stride + column;
    float sums[kCount] = {};
    // Many loads at a time: there are few threads, and nothing else hides their latency.
#ifdef __CUDA_ARCH__
#pragma unroll 8
#endif
    for (int row = 0; row < static_cast<int>(last - first); ++row, from += stride) {
      const auto values = load_vector<kCount>(from, 0);
      for (int k = 0; k < kCount; ++k) sums[k] += values.get(k);
    }
    constexpr int kStored = kCount < kVectorElements<float> ? kCount : kVectorElements<float>;
    for (int k = 0; k < kCount; k += kStored) {
      Vector<float, kStored> stored;
      for (int i = 0; i < kStored; ++i) stored.set(i, sums[k + i]);
      store_vector(partial, slab * width + column + k, stored);
    }
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
      // As many loads at a time as above.
#ifdef __CUDA_ARCH__
#pragma unroll 16
#endif
      for (std::int64_t slab = 0; slab < slabs; ++slab) sum += partial[slab * width + column];
      gradient[column] = sum;
    });
  }
};

}  // namespace autoglm::ops::cuda
