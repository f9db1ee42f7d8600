// Where a branch joins the residual stream on the CUDA route, with the norms before and after the sum.
#pragma once

#include "trainer/ops/cuda_layer_norm_kernels.h"
#include "trainer/ops/cuda_norm_kernels.h"

namespace autoglm::ops::cuda {

// An RMSNorm with a null weight is none.
template <typename T>
struct RmsNormOf {
  const T* weight = nullptr;
  float* rstd = nullptr;  // [rows]
  float epsilon = 0;
};

// sum [width] of a row: stream + branch, or stream + the norm of branch, rounded before the sum.
template <typename T, typename Group>
AUTOGLM_HOST_DEVICE inline void join_row(const Group& group, const T* stream, const T* branch,
                                         const RmsNormOf<T>& after, T* sum, std::int64_t row, int width) {
  float scale = 1;
  if (after.weight != nullptr) {
    scale = rms_scale(group, branch, width, after.epsilon);
    if (group.rank() == 0) after.rstd[row] = scale;
  }
  const bool vectors = rows_hold_vectors(width, stream, branch, after.weight, sum);
  each_of_row<T>(group, width, vectors, [&](int i, auto count) {
    constexpr int kCount = decltype(count)::value;
    Vector<T, kCount> values = load_vector<kCount>(branch, i);
    if (after.weight != nullptr) {
      const Vector<T, kCount> scales = load_vector<kCount>(after.weight, i);
      for (int j = 0; j < kCount; ++j) values.set(j, values.get(j) * scale * scales.get(j));
    }
    add_to(values, load_vector<kCount>(stream, i));
    store_vector(sum, i, values);
  });
}

// Block: a row of the sum [rows, width], and of y, its norm, where that has a weight.
template <typename T>
struct JoinRmsNorm {
  const T* stream;
  const T* branch;
  RmsNormOf<T> after;
  T* sum;
  RmsNormOf<T> norm;
  T* y;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t at = row * width;
    join_row(group, stream + at, branch + at, after, sum + at, row, width);
    if (norm.weight == nullptr) return;
    group.sync();
    const float scale = rms_scale(group, sum + at, width, norm.epsilon);
    if (group.rank() == 0) norm.rstd[row] = scale;
    write_rms_normed(group, sum + at, norm.weight, y + at, width, scale);
  }
};

// Block: a row of stream + branch [rows, width], and of its LayerNorm y.
template <typename T>
struct JoinLayerNorm {
  const T* stream;
  const T* branch;
  T* sum;
  const T* weight;
  const T* bias;
  T* y;
  float* mean;
  float* rstd;
  std::int64_t width;
  float epsilon;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t row) const {
    const std::int64_t at = row * width;
    join_row(group, stream + at, branch + at, RmsNormOf<T>{}, sum + at, row, width);
    group.sync();
    layer_norm_row(group, sum + at, weight, bias, y + at, mean + row, rstd + row, width, epsilon);
  }
};

// Of RmsNormOf, for the backward.
template <typename T>
struct RmsNormGradientOf {
  const T* weight;
  const float* rstd;
  float* partial;  // [blocks, width] or null
};

// Block: block_rows rows. dsum [rows, width]: what comes through the norm of the sum, rounded, plus dstream, which
// may be null; and dbranch, which dsum is to the branch before its own norm. dsum may be dy.
template <typename T>
struct JoinRmsNormBackward {
  static constexpr int kSharedFloats = kSharedSums;

  const T* dy;
  const T* sum;
  RmsNormGradientOf<T> norm;
  const T* dstream;
  T* dsum;
  const T* branch;
  RmsNormGradientOf<T> after;
  T* dbranch;
  std::int64_t rows;
  std::int64_t block_rows;
  std::int64_t width;

  template <typename Group>
  AUTOGLM_HOST_DEVICE void operator()(const Group& group, std::int64_t block) const {
    const bool vectors =
        rows_hold_vectors(width, dy, sum, norm.weight, dstream, dsum, branch, after.weight, dbranch);
    const RowSums<T> norm_sums(group, 0, 2, norm.partial, block, width, vectors);
    const RowSums<T> after_sums(group, 1, 2, after.partial, block, width, vectors);
    const auto row_work = [&](std::int64_t row, bool first) {
      const std::int64_t at = row * width;
      rms_backward_row(group, dy + at, sum + at, norm.weight, norm.rstd[row],
                       dstream == nullptr ? nullptr : dstream + at, dsum + at, width, vectors, norm_sums,
                       first);
      const T* none = nullptr;
      rms_backward_row(group, dsum + at, branch + at, after.weight, after.rstd[row], none, dbranch + at,
                       width, vectors, after_sums, first);
    };
    sum_rows_of_block(group, block, block_rows, rows, row_work, norm_sums, after_sums);
  }
};

}  // namespace autoglm::ops::cuda
