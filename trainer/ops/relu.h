// The rectifier, in place: its result is all that its backward and the linear layer behind it need.
#pragma once

#include <ATen/core/Tensor.h>

namespace autoglm::ops {

// x = max(x, 0); NaNs stay. x is contiguous, and nothing else may read it.
void relu_in_place(at::Tensor& x);

// dy = 0 where y, the result of relu_in_place, is not above 0. Both are contiguous and of one size.
void relu_backward_in_place(const at::Tensor& y, at::Tensor& dy);

// Their CUDA routes, which also run on host tensors.
void relu_cuda(at::Tensor& x);
void relu_backward_cuda(const at::Tensor& y, at::Tensor& dy);

}  // namespace autoglm::ops
