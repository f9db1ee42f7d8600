// Sums over the rows of a matrix on the CUDA route: what gradients of biases and of norms need.
#pragma once

#include <ATen/core/Tensor.h>

#include "sharding/work.h"
#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// Adds the column sums of y [M, N], whose rows may lie apart, to gradient [N], or writes them where that is fresh. On meta
// tensors it allocates its scratch space and counts its work as of `kind`.
void add_column_sums_cuda(WorkKind kind, const at::Tensor& y, const GradientBuffer& gradient);

// The last step alone: partial [P, N], fp32, are sums of some rows each.
void add_partial_sums_cuda(WorkKind kind, const at::Tensor& partial, const GradientBuffer& gradient);

}  // namespace autoglm::ops
