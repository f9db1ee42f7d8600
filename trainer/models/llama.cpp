// The decoder layer of the LLaMA family (Touvron et al., 2023): pre-norm, grouped-query attention, SwiGLU.
#include <cmath>

#include "trainer/models/attention_core.h"
#include "trainer/models/model.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/residual.h"

namespace autoglm {
namespace {

class LlamaLayer final : public Block {
 public:
  LlamaLayer(const ModelConfig& config, std::int64_t index)
      : Block(fmt::format("layer {}", index)), index_(index), shape_(config) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    const std::int64_t hidden = config.hidden_size, ffn = config.intermediate_size;
    const std::int64_t query = config.num_heads * config.head_dim,
                       key = config.num_key_heads * config.head_dim;
    input_norm_ = {add_parameter(prefix + "input_layernorm.weight", {hidden}, false), config.norm_epsilon};
    const auto projection = [&](const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
      Parameter* weight = add_parameter(prefix + name + ".weight", {out, in});
      return ops::Projection{weight, bias ? add_parameter(prefix + name + ".bias", {out}, false) : nullptr};
    };
    qkv_ = {projection("self_attn.q_proj", query, hidden, config.attention_bias),
            projection("self_attn.k_proj", key, hidden, config.attention_bias),
            projection("self_attn.v_proj", key, hidden, config.attention_bias)};
    output_ = projection("self_attn.o_proj", hidden, query, config.attention_bias);
    mlp_norm_ = {add_parameter(prefix + "post_attention_layernorm.weight", {hidden}, false),
                 config.norm_epsilon};
    gate_up_ = {projection("mlp.gate_proj", ffn, hidden, config.mlp_bias),
                projection("mlp.up_proj", ffn, hidden, config.mlp_bias)};
    down_ = projection("mlp.down_proj", hidden, ffn, config.mlp_bias);
  }

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    const auto [stream, attention_input] = ops::branch_off(x);
    const auto [h, mlp_input] =
        ops::branch_off(at::add(stream, ops::linear(attend_to(attention_input, context), output_)));
    return at::add(h, mlp(mlp_input, context));
  }

 private:
  // Functions of their own, so that what is not kept for the backward is gone before the next part begins.
  at::Tensor attend_to(const at::Tensor& x, const ForwardContext& context) {
    const std::vector<at::Tensor> qkv = ops::norm_linear(x, input_norm_, qkv_, context.keep_inputs);
    return attend(qkv[0], qkv[1], qkv[2], shape_, index_, context);
  }
  at::Tensor mlp(const at::Tensor& h, const ForwardContext& context) {
    const std::vector<at::Tensor> gate_up = ops::norm_linear(h, mlp_norm_, gate_up_, context.keep_inputs);
    return ops::swiglu_linear(gate_up, down_, context.keep_inputs);
  }

  std::int64_t index_;
  AttentionCore shape_;
  ops::Norm input_norm_, mlp_norm_;
  std::vector<ops::Projection> qkv_, gate_up_;
  ops::Projection output_, down_;
};

}  // namespace

std::unique_ptr<Block> make_llama_layer(const ModelConfig& config, std::int64_t index) {
  return std::make_unique<LlamaLayer>(config, index);
}

}  // namespace autoglm
