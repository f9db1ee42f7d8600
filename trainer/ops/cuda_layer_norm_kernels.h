// LayerNorm on the CUDA route.
#pragma once

#include "trainer/ops/cuda_norm_sums.h"

namespace autoglm::ops::cuda {

// To y [width] from a row of x whose statistics are known.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void write_layer_normed(const Group& group, const T* x, const T* weight,
                                                   const T* bias, T* y, int width, float mean, float rstd) {
  const bool vectors = rows_hold_vectors(width, x, weight, bias, y);
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    Vector<T, kCount> values = load_vector<kCount>(x, i);
    const auto w = load_vector<kCount>(weight, i), b = load_vector<kCount>(bias, i);
    for (int j = 0; j < kCount; ++j) values.set(j, (values.get(j) - mean) * rstd * w.get(j) + b.get(j));
    store_vector(y, i, values);
  });
}

// y [width] of a row of x, its mean and 1 / deviation.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void layer_norm_row(const Group& group, const T* x, const T* weight, const T* bias,
                                               T* y, float* mean, float* rstd, int width, float epsilon) {
  const bool vectors = rows_hold_vectors(width, x);
  double values = 0, squares = 0;
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const Vector<T, kCount> v = load_vector<kCount>(x, i);
    for (int j = 0; j < kCount; ++j) values += static_cast<double>(v.get(j));
  });
  const float center = static_cast<float>(group.sum(values)) / static_cast<float>(width);
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const Vector<T, kCount> v = load_vector<kCount>(x, i);
    for (int j = 0; j < kCount; ++j) {
      const float distance = v.get(j) - center;
      squares += static_cast<double>(distance * distance);
    }
  });
  const float variance = static_cast<float>(group.sum(squares)) / static_cast<float>(width);
  const float scale = 1.0f / std::sqrt(variance + epsilon);
  if (group.rank() == 0) {
    *mean = center;
    *rstd = scale;
  }
  write_layer_normed(group, x, weight, bias, y, width, center, scale);
}

// Block: a row of x [rows, width].
template <typename T>
struct LayerNormForward {
  const T* x;
  const T* weight;
  const T* bias;
  T* y;
  float* mean;
  float* rstd;
  std::int64_t width;
  float epsilon;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    layer_norm_row(group, x + row * width, weight, bias, y + row * width, mean + row, rstd + row, width,
                   epsilon);
  }
};

// Block: a row; the same y from known statistics.
template <typename T>
struct LayerNormAgain {
  const T* x;
  const T* weight;
  const T* bias;
  const float* mean;
  const float* rstd;
  T* y;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    write_layer_normed(group, x + row * width, weight, bias, y + row * width, width, mean[row], rstd[row]);
  }
};

// dx of a row, and its part of the gradients of weight and bias. With `more`, which may be null, dx is rounded and added
// to it. dx may be dy.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void layer_backward_row(const Group& group, const T* dy, const T* x,
                                                   const T* weight, float mean, float rstd, const T* more,
                                                   T* dx, int width, bool vectors,
                                                   const RowSums<T>& weight_sums, const RowSums<T>& bias_sums,
                                                   bool first) {
  double gradients = 0, products = 0;
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const auto g = load_vector<kCount>(dy, i), w = load_vector<kCount>(weight, i),
               v = load_vector<kCount>(x, i);
    for (int j = 0; j < kCount; ++j) {
      const float weighted = g.get(j) * w.get(j);
      gradients += static_cast<double>(weighted);
      products += static_cast<double>(weighted * ((v.get(j) - mean) * rstd));
    }
  });
  const float shift = static_cast<float>(group.sum(gradients)) / static_cast<float>(width);
  const float shrink = static_cast<float>(group.sum(products)) / static_cast<float>(width);
  each_of_row<T, 1>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    const auto w = load_vector<kCount>(weight, i), v = load_vector<kCount>(x, i);
    auto g = load_vector<kCount>(dy, i);
    for (int j = 0; j < kCount; ++j) {
      const float normed = (v.get(j) - mean) * rstd;
      weight_sums.add(i, j, g.get(j) * normed, first);
      bias_sums.add(i, j, g.get(j), first);
      g.set(j, rstd * (g.get(j) * w.get(j) - shift - normed * shrink));
    }
    if (more != nullptr) add_to(g, load_vector<kCount>(more, i));
    store_vector(dx, i, g);
  });
}

// Block: block_rows rows of dx [rows, width], and their part of the gradients of weight and bias in its row of
// weight_partial and bias_partial [blocks, width], which may be null. With
// `more` [rows, width], which may be null, dx is rounded and added to it. dx may be dy.
template <typename T>
struct LayerNormBackward {
  static constexpr int kSharedFloats = kSharedSums;

  const T* dy;
  const T* x;
  const T* weight;
  const float* mean;
  const float* rstd;
  const T* more;
  T* dx;
  float* weight_partial;
  float* bias_partial;
  std::int64_t rows;
  std::int64_t block_rows;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const bool vectors = rows_hold_vectors(width, dy, x, weight, more, dx);
    const RowSums<T> weight_sums(group, 0, 2, weight_partial, block, width, vectors);
    const RowSums<T> bias_sums(group, 1, 2, bias_partial, block, width, vectors);
    const auto row_work = [&](std::int64_t row, bool first) {
      const std::int64_t at = row * width;
      layer_backward_row(group, dy + at, x + at, weight, mean[row], rstd[row],
                         more == nullptr ? nullptr : more + at, dx + at, width, vectors, weight_sums,
                         bias_sums, first);
    };
    sum_rows_of_block(group, block, block_rows, rows, row_work, weight_sums, bias_sums);
  }
};

}  // namespace autoglm::ops::cuda
