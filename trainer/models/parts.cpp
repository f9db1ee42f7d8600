#include "trainer/models/parts.h"

#include <cmath>

#include "trainer/ops/linear.h"
#include "trainer/ops/rotary_heads.h"

namespace autoglm {

SelfAttention::SelfAttention(Block& block, const ModelConfig& config, const Options& options)
    : num_heads_(config.num_heads), num_key_heads_(config.num_key_heads), head_dim_(config.head_dim) {
  if (!config.rotary.empty()) rotary_ = options.rotary;
  const std::int64_t hidden = config.hidden_size, query = num_heads_ * head_dim_,
                     key = num_key_heads_ * head_dim_;
  // Weights side by side, then biases.
  for (const auto& [name, width] :
       {std::pair{"q_proj", query}, std::pair{"k_proj", key}, std::pair{"v_proj", key}})
    qkv_.push_back(block.add_projection(std::string("self_attn.") + name, width, hidden, false));
  if (config.attention_bias) {
    qkv_[0].bias = block.add_parameter("self_attn.q_proj.bias", {query}, false);
    qkv_[1].bias = block.add_parameter("self_attn.k_proj.bias", {key}, false);
    qkv_[2].bias = block.add_parameter("self_attn.v_proj.bias", {key}, false);
  }
  output_ = block.add_projection(std::string("self_attn.") + options.output_name, hidden, query,
                                 options.output_bias);
}

std::pair<at::Tensor, at::Tensor> SelfAttention::attend(ops::Residual residual, const ops::Norm& norm,
                                                        const ForwardContext& context) const {
  auto [stream, qkv] = ops::norm_linear(std::move(residual), norm, qkv_, context.keep_inputs);
  const std::int64_t batch = stream.size(0), length = stream.size(1);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim_));
  for (at::Tensor& one : qkv) one = one.view({batch, length, -1, head_dim_});
  if (rotary_) qkv = ops::rotary_heads(qkv, context.positions, context.rotary_tables[*rotary_]);
  const at::Tensor &q = qkv[0], &k = qkv[1], &v = qkv[2];
  const at::Tensor out = context.cache == nullptr
                             ? ops::attention(q, k, v, context.rows, scale)
                             : ops::attention_with_cache(q, k, v, *context.cache, context.past, scale);
  return {stream, out.view({batch, length, num_heads_ * head_dim_})};
}

ops::Residual SelfAttention::forward(ops::Residual residual, const ops::Norm& norm,
                                     const ForwardContext& context) const {
  const auto [stream, attended] = attend(std::move(residual), norm, context);
  return {.stream = stream, .branch = ops::linear(attended, output_)};
}

GatedMlp::GatedMlp(Block& block, const ModelConfig& config, Layout layout) {
  const std::int64_t hidden = config.hidden_size, ffn = config.intermediate_size;
  if (layout == Layout::together) {
    gate_up_ = {block.add_projection("mlp.gate_up_proj", 2 * ffn, hidden, config.mlp_bias)};
  } else {
    gate_up_.push_back(block.add_projection("mlp.gate_proj", ffn, hidden, config.mlp_bias));
    gate_up_.push_back(block.add_projection("mlp.up_proj", ffn, hidden, config.mlp_bias));
  }
  down_ = block.add_projection("mlp.down_proj", hidden, ffn, config.mlp_bias);
}

ops::Residual GatedMlp::forward(ops::Residual residual, const ops::Norm& norm,
                                const ForwardContext& context) const {
  const auto [stream, gate_up] = ops::norm_linear(std::move(residual), norm, gate_up_, context.keep_inputs);
  return {.stream = stream, .branch = ops::swiglu_linear(gate_up, down_, context.keep_inputs)};
}

}  // namespace autoglm
