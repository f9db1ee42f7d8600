// Parts that the layers of several architectures have.
#pragma once

#include <optional>
#include <vector>

#include "trainer/models/block.h"

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

  // What the output projection reads, [B, T, heads * D]: attention over the norm of x [B, T, H]. That
  // projection is left to the layer's own function, so that what is not kept for the backward is gone before
  // it begins.
  at::Tensor attend(const at::Tensor& x, const ops::Norm& norm, const ForwardContext& context) const;

  const ops::Projection& output() const { return output_; }

 private:
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

  // Of the norm of x [B, T, H]: [B, T, H].
  at::Tensor forward(const at::Tensor& x, const ops::Norm& norm, const ForwardContext& context) const;

 private:
  std::vector<ops::Projection> gate_up_;
  ops::Projection down_;
};

}  // namespace autoglm
