// The decoder layer of GLM-4-0414: norms before and after attention and MLP, interleaved partial rotary
// embedding, gate and up in one matrix.
#include "trainer/models/attention_core.h"
#include "trainer/models/model.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/residual.h"

namespace autoglm {
namespace {

class Glm4Layer final : public Block {
 public:
  Glm4Layer(const ModelConfig& config, std::int64_t index)
      : Block(fmt::format("layer {}", index)), index_(index), shape_(config) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    const std::int64_t hidden = config.hidden_size;
    const std::int64_t query = config.num_heads * config.head_dim,
                       key = config.num_key_heads * config.head_dim;
    const auto norm = [&](const char* name) {
      return ops::Norm{add_parameter(prefix + name + ".weight", {hidden}, false), config.norm_epsilon};
    };
    const auto projection = [&](const std::string& name, std::int64_t out, std::int64_t in, bool bias) {
      Parameter* weight = add_parameter(prefix + name + ".weight", {out, in});
      return ops::Projection{weight, bias ? add_parameter(prefix + name + ".bias", {out}, false) : nullptr};
    };
    input_norm_ = norm("input_layernorm");
    qkv_ = {projection("self_attn.q_proj", query, hidden, config.attention_bias),
            projection("self_attn.k_proj", key, hidden, config.attention_bias),
            projection("self_attn.v_proj", key, hidden, config.attention_bias)};
    output_ = projection("self_attn.o_proj", hidden, query, false);
    after_attention_norm_ = norm("post_self_attn_layernorm");
    mlp_norm_ = norm("post_attention_layernorm");
    gate_up_ = projection("mlp.gate_up_proj", 2 * config.intermediate_size, hidden, false);
    down_ = projection("mlp.down_proj", hidden, config.intermediate_size, false);
    after_mlp_norm_ = norm("post_mlp_layernorm");
  }

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    const auto [stream, attention_input] = ops::branch_off(x);
    const auto [h, mlp_input] = ops::branch_off(at::add(
        stream,
        ops::normalize(ops::linear(attend_to(attention_input, context), output_), after_attention_norm_)));
    return at::add(h, ops::normalize(mlp(mlp_input, context), after_mlp_norm_));
  }

 private:
  // Functions of their own, so that what is not kept for the backward is gone before the next part begins.
  at::Tensor attend_to(const at::Tensor& x, const ForwardContext& context) {
    const std::vector<at::Tensor> qkv = ops::norm_linear(x, input_norm_, qkv_, context.keep_inputs);
    return attend(qkv[0], qkv[1], qkv[2], shape_, index_, context);
  }
  at::Tensor mlp(const at::Tensor& h, const ForwardContext& context) {
    const std::vector<at::Tensor> gate_up =
        ops::norm_linear(h, mlp_norm_, {&gate_up_, 1}, context.keep_inputs);
    return ops::swiglu_linear(gate_up, down_, context.keep_inputs);
  }

  std::int64_t index_;
  AttentionCore shape_;
  ops::Norm input_norm_, after_attention_norm_, mlp_norm_, after_mlp_norm_;
  std::vector<ops::Projection> qkv_;
  ops::Projection output_, gate_up_, down_;
};

}  // namespace

std::unique_ptr<Block> make_glm4_layer(const ModelConfig& config, std::int64_t index) {
  return std::make_unique<Glm4Layer>(config, index);
}

}  // namespace autoglm
