// RMSNorm on the CUDA route, and the sums over rows that norm weights and biases need as gradients.
#pragma once

#include "trainer/ops/cuda_group.h"

namespace autoglm::ops::cuda {

template <typename T>
AUTOGLM_HOST_DEVICE inline float normed_element(const T* x, const T* weight, std::int64_t i, float rstd) {
  return load(x, i) * rstd * load(weight, i);
}

// Block: a row of x [rows, width].
template <typename T>
struct RmsNormForward {
  const T* x;
  const T* weight;
  T* y;
  float* rstd;
  std::int64_t width;
  float epsilon;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    double squares = 0;
    each(group, 0, width,
         [&](std::int64_t i) { squares += static_cast<double>(load(from, i) * load(from, i)); });
    const auto sum = static_cast<float>(group.sum(squares));
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
    if (group.rank() == 0) rstd[row] = scale;
    each(group, 0, width, [&](std::int64_t i) { store(to, i, normed_element(from, weight, i, scale)); });
  }
};

// Block: a row; the same y from a known rstd.
template <typename T>
struct RmsNormAgain {
  const T* x;
  const T* weight;
  const float* rstd;
  T* y;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    T* to = y + row * width;
    const float scale = rstd[row];
    each(group, 0, width, [&](std::int64_t i) { store(to, i, normed_element(from, weight, i, scale)); });
  }
};

// Block: a row of dx.
template <typename T>
struct RmsNormBackward {
  const T* dy;
  const T* x;
  const T* weight;
  const float* rstd;
  T* dx;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const T* from = x + row * width;
    const T* gradient = dy + row * width;
    T* to = dx + row * width;
    const float scale = rstd[row];
    double products = 0;
    each(group, 0, width, [&](std::int64_t i) {
      products += static_cast<double>(load(gradient, i) * load(weight, i) * load(from, i));
    });
    const float shrink = static_cast<float>(group.sum(products)) * scale * scale / static_cast<float>(width);
    each(group, 0, width, [&](std::int64_t i) {
      store(to, i, scale * (load(gradient, i) * load(weight, i) - load(from, i) * shrink));
    });
  }
};

// Sums over rows are taken over slabs of this many rows, and then over the slabs: the same order always.
inline constexpr std::int64_t kSlabRows = 64;

// Block: kThreads columns of one slab of y [rows, width], summed into partial [slabs, width]. With x and rstd
// each element is multiplied by its normed x, as a norm weight's gradient wants it.
template <typename T>
struct SlabSums {
  const T* y;
  const T* x;         // [rows, width] or null
  const float* mean;  // [rows] or null
  const float* rstd;  // [rows] or null with x
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
      for (std::int64_t row = first; row < last; ++row) {
        const float value = load(y, row * stride + column);
        sum += x == nullptr ? value : value * normed(row, row * width + column);
      }
      partial[slab * width + column] = sum;
    });
  }

 private:
  AUTOGLM_HOST_DEVICE float normed(std::int64_t row, std::int64_t at) const {
    return (mean == nullptr ? load(x, at) : load(x, at) - mean[row]) * rstd[row];
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
      for (std::int64_t slab = 0; slab < slabs; ++slab) sum += partial[slab * width + column];
      gradient[column] = sum;
    });
  }
};

}  // namespace autoglm::ops::cuda
