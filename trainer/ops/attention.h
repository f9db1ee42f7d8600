// Attention confined to documents, in the memory of its inputs (Dao et al., 2022: softmax by its
// log-sum, probabilities rebuilt in the backward).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace autoglm::ops {

// Rows of tokens, each a sequence of whole documents. Token t of row b is token b * length + t.
struct PackedRows {
  std::int64_t batch = 1;
  std::int64_t length = 0;
  // Where documents begin, ascending; the first token of every row is among them.
  std::vector<std::int32_t> document_starts;
  // Whether a token sees the earlier tokens of its document and itself alone, or all of them.
  bool causal = true;
};

// query [B, T, N, D], key and value [B, T, M, D] with M dividing N (head n reads key head n / (N / M)):
// softmax(query key^T * scale) value, [B, T, N, D], each token seeing what `rows` says.
// The scratch space depends on B, T, D, and the number of threads alone. Recorded by autograd.
at::Tensor attention(const at::Tensor& query_BTND, const at::Tensor& key_BTMD, const at::Tensor& value_BTMD,
                     const PackedRows& rows, float scale);

// Keys and values of the tokens so far, for generating one answer: [1, capacity, M, D] each.
struct KeyValueCache {
  at::Tensor key;
  at::Tensor value;
};

// Attention of new tokens (B = 1) that begin at position `past`: writes their keys and values into the cache
// and lets them see everything before. Not recorded; CPU and CUDA.
at::Tensor attention_with_cache(const at::Tensor& query_BTND, const at::Tensor& key_BTMD,
                                const at::Tensor& value_BTMD, KeyValueCache& cache, std::int64_t past,
                                float scale);

}  // namespace autoglm::ops
