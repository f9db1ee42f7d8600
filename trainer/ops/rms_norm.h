// Root mean square normalization (Zhang and Sennrich, 2019): y = x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// The routes of norm.h's pieces; those of CUDA also run on host tensors. Tensors are contiguous [M, H]; rstd,
// the statistics, is fp32 [M].
void rms_norm_forward_cpu(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                          at::Tensor& rstd);
void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd);
// The same y again, to the bit.
void rms_norm_again_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd, at::Tensor& y);
void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y);
// Writes dweight or adds to it when it is defined. On meta tensors they allocate their scratch space and compute
// nothing. With `more` [M, H] the route of CUDA rounds dx and adds it to that; there dx may be dy.
void rms_norm_backward_cpu(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight);
void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight,
                            const at::Tensor& more = {});

}  // namespace autoglm::ops
