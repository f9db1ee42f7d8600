// Attention by batched fp32 products over tiles of queries: for what FlashAttention does not take. Slower,
// but for any type and head dimension, and the same on CUDA and on host tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/attention_routes.h"

namespace autoglm::ops {

AttentionForward attention_forward_tiled(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const PackedRows& rows, float scale);
AttentionGradients attention_backward_tiled(const at::Tensor& dout, const at::Tensor& q, const at::Tensor& k,
                                            const at::Tensor& v, const at::Tensor& log_sum,
                                            const PackedRows& rows, float scale);
void attention_with_cache_tiled(const at::Tensor& q, const KeyValueCache& cache, std::int64_t past,
                                float scale, at::Tensor& out);

}  // namespace autoglm::ops
