// Layer normalization (Ba et al., 2016): y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias.
#pragma once

#include "trainer/ops/norm.h"

namespace autoglm::ops {

// The pieces of norm.h for a norm with a bias. Tensors are contiguous [M, H]; statistics are fp32 [2, M].
NormResult layer_norm_forward(const at::Tensor& x_MH, const Norm& norm);
// The same y again, to the bit.
at::Tensor layer_norm_again(const at::Tensor& x_MH, const at::Tensor& statistics, const Norm& norm);
// dx [M, H]; adds the gradients of weight and bias where they are trainable.
at::Tensor layer_norm_backward(const at::Tensor& dy_MH, const at::Tensor& x_MH, const at::Tensor& statistics,
                               const Norm& norm);

// The CUDA routes, which also run on host tensors. Statistics are means, then 1 / deviations.
void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics);
void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y);
// Adds to dweight and dbias (fp32) where they are defined. On meta tensors it allocates its scratch space and
// computes nothing.
void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const at::Tensor& dweight,
                              const at::Tensor& dbias);

}  // namespace autoglm::ops
