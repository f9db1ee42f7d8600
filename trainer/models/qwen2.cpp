// Qwen2 and Qwen2.5 (Yang et al., 2024): a LLaMA layer whose queries, keys and values have biases.
#include "base/error.h"
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/residual.h"

namespace autoglm {
namespace {

class Qwen2Layer final : public LayerBlock {
 public:
  Qwen2Layer(const ModelConfig& config, std::int64_t index)
      : LayerBlock(config, index, config.tensor_prefix + "layers."),
        input_norm_(add_stream_norm(ops::NormKind::rms, "input_layernorm")),
        attention_(*this, config, {}),
        mlp_norm_(add_stream_norm(ops::NormKind::rms, "post_attention_layernorm")),
        mlp_(*this, config, GatedMlp::Layout::apart) {}

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    const auto [stream, attention_input] = ops::branch_off(x);
    const auto [h, mlp_input] = ops::branch_off(at::add(
        stream, ops::linear(attention_.attend(attention_input, input_norm_, context), attention_.output())));
    return at::add(h, mlp_.forward(mlp_input, mlp_norm_, context));
  }

 private:
  // In the order of the flat buffer.
  ops::Norm input_norm_;
  SelfAttention attention_;
  ops::Norm mlp_norm_;
  GatedMlp mlp_;
};

ModelConfig parse_qwen2(const JsonFields& fields) {
  require_flag(fields, "use_sliding_window", false);
  ModelConfig config = read_llama_fields(fields, 1e-6, 1.0);
  config.attention_bias = true;
  return config;
}

}  // namespace

Architecture qwen2() {
  return {.model_type = "qwen2",
          .known_as = "Qwen2, Qwen2.5",
          .parse = parse_qwen2,
          .layer = make_layer<Qwen2Layer>,
          .ignored_tensors = {"*.rotary_emb.inv_freq"}};
}

}  // namespace autoglm
