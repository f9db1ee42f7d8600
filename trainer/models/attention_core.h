// What decoder layers do between their input and output projections.
#pragma once

#include <cmath>

#include "trainer/models/block.h"
#include "trainer/models/config.h"

namespace autoglm {

struct AttentionCore {
  std::int64_t num_heads, num_key_heads, head_dim;
  bool rotates;

  explicit AttentionCore(const ModelConfig& config)
      : num_heads(config.num_heads),
        num_key_heads(config.num_key_heads),
        head_dim(config.head_dim),
        rotates(!config.rotary.inverse_frequencies.empty()) {}
};

// query [B, T, heads * D], key and value [B, T, key heads * D]: rotates query and key where the model has
// rotary embeddings, attends, and returns [B, T, heads * D].
inline at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                         const AttentionCore& shape, std::int64_t layer, const ForwardContext& context) {
  const std::int64_t batch = query.size(0), length = query.size(1);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const auto heads = [&](const at::Tensor& x, std::int64_t count) {
    return x.view({batch, length, count, shape.head_dim});
  };
  const auto rotated = [&](const at::Tensor& x) {
    return shape.rotates ? ops::rotary(x, context.positions, *context.rotary) : x;
  };
  const at::Tensor q = rotated(heads(query, shape.num_heads));
  const at::Tensor k = rotated(heads(key, shape.num_key_heads));
  const at::Tensor v = heads(value, shape.num_key_heads);
  const at::Tensor out =
      context.caches == nullptr
          ? ops::attention(q, k, v, context.rows, scale)
          : ops::attention_with_cache(q, k, v, (*context.caches)[static_cast<std::size_t>(layer)],
                                      context.past, scale);
  return out.view({batch, length, shape.num_heads * shape.head_dim});
}

}  // namespace autoglm
