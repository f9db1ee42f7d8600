// The CUDA route of projection.h, with the same contract; also runs on host tensors. On meta tensors it
// allocates its scratch space and counts its work. Where weights lie side by side, as those of q, k and v do in a
// block's flat buffer, they are taken as one matrix.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "trainer/ops/projection.h"

namespace autoglm::ops {

// Outputs of one product are neighbouring columns of a matrix.
std::vector<at::Tensor> project_cuda(const at::Tensor& x, std::span<const Projection> projections);
// dx is undefined when not wanted.
void project_backward_cuda(std::span<const at::Tensor> dy, const at::Tensor& x,
                           std::span<const Projection> projections, at::Tensor& dx);

}  // namespace autoglm::ops
