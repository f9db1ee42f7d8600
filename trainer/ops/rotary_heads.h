// Rotary position embedding of all the heads of a layer.
#pragma once

#include <span>
#include <vector>

#include "trainer/ops/rotary.h"

namespace autoglm::ops {

// rotary() of a layer's queries and keys, whose values come along: {q, k, v}, or what they become. On CUDA they turn
// where they lie, in one launch, so that nothing may read them as they were; and the gradients of all three are
// neighbouring columns of one matrix, as the product that they go to reads them.
std::vector<at::Tensor> rotary_heads(const std::vector<at::Tensor>& qkv, const at::Tensor& positions,
                                     const RotaryTable& table);

// The CUDA route, as rotary_cuda(). Up to three tensors [B, T, N, D], each dense or neighbouring columns of a matrix of
// B * T rows: the first two are turned, the third is copied. `to` is shaped as `from`; where it is the same tensors
// there are no more than two.
void rotary_heads_cuda(std::span<const at::Tensor> from, const at::Tensor& positions,
                       const RotaryTable& table, float sign, std::span<const at::Tensor> to);

}  // namespace autoglm::ops
