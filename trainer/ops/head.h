// The end of a language model: final norm, vocabulary matrix, cross-entropy, and all of their gradients,
// without ever holding the logits of more than one chunk of tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/ops/norm.h"
#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// The target of a token that is not supervised.
inline constexpr std::int32_t kIgnoredTarget = -100;

// What stands between the last layer and the logits. The handles belong to the model's blocks.
struct Head {
  Norm norm;                        // of the last layer's output, or none
  Parameter* weight = nullptr;      // the vocabulary matrix [V, W]
  Parameter* projection = nullptr;  // [W, H] before it, or null where W is H
};

struct HeadResult {
  // Sum over supervised tokens of -log softmax(logits)[target], in nats.
  double loss_sum = 0;
  // Gradient of loss_sum * gradient_scale with respect to x, [M, H]; undefined when not training.
  at::Tensor dx;
};

// x [M, H]; targets int32 [M] on the host (not read on meta). Only supervised tokens are computed,
// `chunk_tokens` at a time: chunks are packed across the unsupervised ones, buffers have a fixed size. When
// `training`, adds to the gradients of the head's parameters and returns dx.
HeadResult head_loss(const at::Tensor& x_MH, const at::Tensor& targets_M, const Head& head,
                     std::int64_t chunk_tokens, float gradient_scale, bool training);

// Logits fp32 [M, V] of every token: for generating and for tests.
at::Tensor head_logits(const at::Tensor& x_MH, const Head& head);

}  // namespace autoglm::ops
