// The residual stream: where a branch comes back to it, and the norms around that place.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/norm.h"

namespace autoglm::ops {

// The stream and a branch of it that is still to be added: the sum is stream + after(branch), each rounded to the
// activation type. Tensors are [..., H].
struct Residual {
  at::Tensor stream{};
  at::Tensor branch{};  // undefined: nothing to add
  Norm after{};
};

// The sum. Recorded by autograd.
at::Tensor join(Residual residual);

// The pieces, for ops that begin with a sum and its norm. Tensors are contiguous [M, H]. The CUDA route takes the sum
// and the norms around it in one pass; the bits are those of one after the other.
struct Joined {
  at::Tensor sum;
  NormResult normed;            // of the sum
  at::Tensor after_statistics;  // of the norm of the branch; undefined without one
};
Joined join_forward(const at::Tensor& stream, const at::Tensor& branch, const Norm& after, const Norm& norm);

// What the sum is to the stream, and to the branch: the same tensor where that has no norm.
struct JoinGradients {
  at::Tensor sum;
  at::Tensor branch;
};
// From dy, the gradient of the normed sum, which nothing else may read: it is overwritten; and from that of the sum
// itself, dstream, which may be undefined. `branch` is read where it has a norm. Adds the gradients of weights and biases
// where they are trainable.
JoinGradients join_backward(at::Tensor dy, const at::Tensor& dstream, const Joined& joined,
                            const at::Tensor& branch, const Norm& after, const Norm& norm);

// Whether the CUDA route has one kernel for these norms, and that kernel; also run on host tensors.
bool joins_at_once(const Norm& after, const Norm& norm);
Joined join_forward_cuda(const at::Tensor& stream, const at::Tensor& branch, const Norm& after,
                         const Norm& norm);
JoinGradients join_backward_cuda(at::Tensor dy, const at::Tensor& dstream, const Joined& joined,
                                 const at::Tensor& branch, const Norm& after, const Norm& norm);

}  // namespace autoglm::ops
