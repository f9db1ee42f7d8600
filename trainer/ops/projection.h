// Matrix products of a layer: several weights that read the same input, as q, k and v do.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// One output of a projection: x @ weight^T + bias. weight [N, K], bias [N] or null. The handles belong to the
// block and outlive every graph.
struct Projection {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
};

// y_i [M, N_i] = x [M, K] @ weight_i^T + bias_i, in x's dtype. bf16: exact products, fp32 sums, one rounding. On CUDA they
// may be neighbouring columns of one matrix.
std::vector<at::Tensor> project(const at::Tensor& x_MK, std::span<const Projection> projections);

// Adds dy_i^T @ x to the gradient of each trainable weight and the column sums of dy_i to each trainable
// bias; returns dx [M, K] = sum of dy_i @ weight_i in x's dtype, or an undefined tensor when not wanted.
at::Tensor project_backward(std::span<const at::Tensor> dy, const at::Tensor& x_MK,
                            std::span<const Projection> projections, bool want_dx);

// C [M, N] = alpha * op(A) @ op(B) + beta * C on fp32 arrays in row-major order; op transposes where asked.
// The leading dimensions are row strides. CPU only.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc);

}  // namespace autoglm::ops
