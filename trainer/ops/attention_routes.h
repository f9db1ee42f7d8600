// The two routes of attention.h, with the same contracts.
//
// CUDA: bf16 with a head dimension that FlashAttention takes goes through LibTorch's FlashAttention-2 on packed
// documents, with its deterministic backward; anything else, and host tensors, through attention_tiled_cuda.h. Tokens of
// q, k and v may lie apart; the heads of each are dense, and results all are.
// On meta tensors the training functions allocate as on their device and compute nothing.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "trainer/ops/attention.h"

namespace autoglm::ops {

// Allocated as a tensor of that shape whose tokens do not lie apart.
inline at::Tensor dense_like(const at::Tensor& x) {
  return at::empty(x.sizes(), x.options());
}

struct AttentionForward {
  at::Tensor out;         // like q
  at::Tensor statistics;  // fp32, of each query's softmax, as the same route's backward reads them
};
struct AttentionGradients {
  at::Tensor dq, dk, dv;
};

AttentionForward attention_forward_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                       const PackedRows& rows, float scale);
AttentionForward attention_forward_cuda(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                        const PackedRows& rows, float scale);

// The CPU's does not read forward.out.
AttentionGradients attention_backward_cpu(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                          const at::Tensor& v, const AttentionForward& forward,
                                          const PackedRows& rows, float scale);
AttentionGradients attention_backward_cuda(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const AttentionForward& forward,
                                           const PackedRows& rows, float scale);

// The cache holds the new tokens' keys and values already.
void attention_with_cache_cpu(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past, float scale,
                              at::Tensor& out);
void attention_with_cache_cuda(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past,
                               float scale, at::Tensor& out);

}  // namespace autoglm::ops
