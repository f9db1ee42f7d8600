// Parts that the layers of several architectures have.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "trainer/models/block.h"
#include "trainer/ops/residual.h"

namespace autoglm {

// Scaled dot-product attention by heads, with grouped keys and rotation where the model has it.
class SelfAttention {
 public:
  struct Options {
    const char* output_name = "o_proj";
    bool output_bias = false;
    std::size_t rotary = 0;  // which of the model's, if it has any
  };

  // Declares the projections self_attn.q_proj, k_proj and v_proj, with biases where the configuration says
  // so, and the one that follows, self_attn.OUTPUT_NAME.
  SelfAttention(Block& block, const ModelConfig& config, const Options& options);

  // The stream after `residual` [B, T, H], and as its branch attention over its norm, projected.
  ops::Residual forward(ops::Residual residual, const ops::Norm& norm, const ForwardContext& context) const;

 private:
  // The stream, and what the output projection reads [B, T, heads * D]. A function of its own, so that what is not kept
  // for the backward is gone before that projection.
  std::pair<at::Tensor, at::Tensor> attend(ops::Residual residual, const ops::Norm& norm,
                                           const ForwardContext& context) const;

  std::int64_t num_heads_, num_key_heads_, head_dim_;
  std::optional<std::size_t> rotary_;
  std::vector<ops::Projection> qkv_;
  ops::Projection output_;
};

// down(silu(gate(x)) * up(x)).
class GatedMlp {
 public:
  // Declares mlp.gate_proj and mlp.up_proj, or mlp.gate_up_proj of both, and mlp.down_proj.
  enum class Layout { apart, together };
  GatedMlp(Block& block, const ModelConfig& config, Layout layout);

  // The stream after `residual` [B, T, H], and as its branch the layer's of its norm.
  ops::Residual forward(ops::Residual residual, const ops::Norm& norm, const ForwardContext& context) const;

 private:
  std::vector<ops::Projection> gate_up_;
  ops::Projection down_;
};

}  // namespace autoglm
