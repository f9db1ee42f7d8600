// Layer normalization (Ba et al., 2016): y = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// The routes of norm.h's pieces; those of CUDA also run on host tensors. Tensors are contiguous [M, H];
// statistics are fp32 [2, M]: means, then 1 / deviations.
void layer_norm_forward_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            double epsilon, at::Tensor& y, at::Tensor& statistics);
void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics);
// The same y again, to the bit.
void layer_norm_again_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& statistics, at::Tensor& y);
void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y);
// Writes dweight and dbias or adds to them where they are defined. On meta tensors they allocate their scratch space
// and compute nothing. With `more` [M, H] the route of CUDA rounds dx and adds it to that; there dx may be dy.
void layer_norm_backward_cpu(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& statistics, at::Tensor& dx, const GradientBuffer& dweight,
                             const GradientBuffer& dbias);
void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const GradientBuffer& dweight,
                              const GradientBuffer& dbias, const at::Tensor& more = {});

}  // namespace autoglm::ops
