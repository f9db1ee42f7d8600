// Root mean square normalization (Zhang and Sennrich, 2019): y = x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include "trainer/ops/norm.h"

namespace autoglm::ops {

// The pieces of norm.h for a norm without a bias. Tensors are contiguous [M, H]; rstd, the statistics, is
// fp32 [M].
NormResult rms_norm_forward(const at::Tensor& x_MH, const Norm& norm);
// The same y again, to the bit.
at::Tensor rms_norm_again(const at::Tensor& x_MH, const at::Tensor& rstd_M, const Norm& norm);
// dx [M, H]; adds the weight's gradient where it is trainable.
at::Tensor rms_norm_backward(const at::Tensor& dy_MH, const at::Tensor& x_MH, const at::Tensor& rstd_M,
                             const Norm& norm);

// The CUDA routes, which also run on host tensors.
void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd);
void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y);
// Adds to dweight (fp32) when it is defined. On meta tensors it allocates its scratch space and computes
// nothing.
void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const at::Tensor& dweight);

}  // namespace autoglm::ops
