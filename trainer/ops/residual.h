// The place where a residual connection leaves the stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

namespace autoglm::ops {

// x twice, without copies: first for the sum at the end of the branch, second for the branch itself. The
// gradients meet in place, in the branch's, which must be a tensor that nothing else reads. Autograd's own
// sum of two gradients is in place on the CPU but not on meta, where a step could then not be rehearsed
// exactly.
std::pair<at::Tensor, at::Tensor> branch_off(const at::Tensor& x);

// The sum at the end of a branch.
at::Tensor join(const at::Tensor& stream, const at::Tensor& branch);

}  // namespace autoglm::ops
