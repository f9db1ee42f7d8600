// The LLaMA family (Touvron et al., 2023): pre-norm, grouped-query attention, SwiGLU.
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"

namespace autoglm {
namespace {

class LlamaLayer final : public LayerBlock {
 public:
  LlamaLayer(const ModelConfig& config, std::int64_t index)
      : LayerBlock(config, index, config.tensor_prefix + "layers."),
        input_norm_(add_stream_norm(ops::NormKind::rms, "input_layernorm")),
        attention_(*this, config, {.output_bias = config.attention_bias}),
        mlp_norm_(add_stream_norm(ops::NormKind::rms, "post_attention_layernorm")),
        mlp_(*this, config, GatedMlp::Layout::apart) {}

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    return ops::join(
        mlp_.forward(attention_.forward({.stream = x}, input_norm_, context), mlp_norm_, context));
  }

 private:
  // In the order of the flat buffer.
  ops::Norm input_norm_;
  SelfAttention attention_;
  ops::Norm mlp_norm_;
  GatedMlp mlp_;
};

ModelConfig parse_llama(const JsonFields& fields) {
  ModelConfig config = read_llama_fields(fields, {});
  config.mlp_bias = fields.flag("mlp_bias", false);
  return config;
}

}  // namespace

Architecture llama() {
  return {.model_type = "llama",
          .known_as = "LLaMA 1-3, SmolLM2, TinyLlama",
          .parse = parse_llama,
          .layer = make_layer<LlamaLayer>,
          .ignored_tensors = {"*rotary_emb.*"}};
}

}  // namespace autoglm
