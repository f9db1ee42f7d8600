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

}  // namespace autoglm::ops
