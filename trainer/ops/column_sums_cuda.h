// Sums over the rows of a matrix on the CUDA route: what gradients of biases and of norms need.
#pragma once

#include <ATen/core/Tensor.h>

namespace autoglm::ops {

// Adds the column sums of y [M, N] to gradient fp32 [N]. With x [M, N] and the statistics of its norm (fp32
// [M], or [2, M] with means) each element is first multiplied by the normed x of its place. On meta tensors it
// allocates its scratch space and computes nothing.
void add_column_sums_cuda(const at::Tensor& y, const at::Tensor& x, const at::Tensor& statistics,
                          const at::Tensor& gradient);

}  // namespace autoglm::ops
