// RMSNorm on the CUDA route.
#pragma once

#include "trainer/ops/cuda_norm_sums.h"

namespace autoglm::ops::cuda {

// To y [width] from a row of x whose 1 / deviation is known.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void write_rms_normed(const Group& group, const T* x, const T* weight, T* y,
                                                 int width, float rstd) {
  each_of_row<T>(group, width, rows_hold_vectors(width, x, weight, y), [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    Vector<T, kCount> values = load_vector<kCount>(x, i);
    const Vector<T, kCount> scales = load_vector<kCount>(weight, i);
    for (int j = 0; j < kCount; ++j) values.set(j, values.get(j) * rstd * scales.get(j));
    store_vector(y, i, values);
  });
}

// 1 / deviation of a row of x.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline float rms_scale(const Group& group, const T* x, int width, float epsilon) {
  double squares = 0;
  each_of_row<T>(group, width, rows_hold_vectors(width, x), [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const Vector<T, kCount> values = load_vector<kCount>(x, i);
    for (int j = 0; j < kCount; ++j) squares += static_cast<double>(values.get(j) * values.get(j));
  });
  const auto sum = static_cast<float>(group.sum(squares));
  return 1.0f / std::sqrt(sum / static_cast<float>(width) + epsilon);
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
    const float scale = rms_scale(group, from, width, epsilon);
    if (group.rank() == 0) rstd[row] = scale;
    write_rms_normed(group, from, weight, y + row * width, width, scale);
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
    write_rms_normed(group, x + row * width, weight, y + row * width, width, rstd[row]);
  }
};

// dx of a row, and its part of the weight's gradient. With `more`, which may be null, dx is rounded and added to it. dx
// may be dy.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void rms_backward_row(const Group& group, const T* dy, const T* x, const T* weight,
                                                 float rstd, const T* more, T* dx, int width, bool vectors,
                                                 const RowSums<T>& sums, bool first) {
  double products = 0;
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const auto g = load_vector<kCount>(dy, i), w = load_vector<kCount>(weight, i),
               v = load_vector<kCount>(x, i);
    for (int j = 0; j < kCount; ++j) products += static_cast<double>(g.get(j) * w.get(j) * v.get(j));
  });
  const float shrink = static_cast<float>(group.sum(products)) * rstd * rstd / static_cast<float>(width);
  each_of_row<T, 1>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const auto w = load_vector<kCount>(weight, i), v = load_vector<kCount>(x, i);
    auto g = load_vector<kCount>(dy, i);
    for (int j = 0; j < kCount; ++j) {
      sums.add(i, j, g.get(j) * (v.get(j) * rstd), first);
      g.set(j, rstd * (g.get(j) * w.get(j) - v.get(j) * shrink));
    }
    if (more != nullptr) add_to(g, load_vector<kCount>(more, i));
    store_vector(dx, i, g);
  });
}

// Block: block_rows rows of dx [rows, width], and their part of the weight's gradient in its row of partial
// [blocks, width], which may be null. With `more` [rows, width], which may be null, dx is rounded and added to it. dx
// may be dy.
template <typename T>
struct RmsNormBackward {
  static constexpr int kSharedFloats = kSharedSums;

  const T* dy;
  const T* x;
  const T* weight;
  const float* rstd;
  const T* more;
  T* dx;
  float* partial;
  std::int64_t rows;
  std::int64_t block_rows;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const bool vectors = rows_hold_vectors(width, dy, x, weight, more, dx);
    const RowSums<T> sums(group, 0, 1, partial, block, width, vectors);
    const auto row_work = [&](std::int64_t row, bool first) {
      const std::int64_t at = row * width;
      rms_backward_row(group, dy + at, x + at, weight, rstd[row], more == nullptr ? nullptr : more + at,
                       dx + at, width, vectors, sums, first);
    };
    sum_rows_of_block(group, block, block_rows, rows, row_work, sums);
  }
};

}  // namespace autoglm::ops::cuda
