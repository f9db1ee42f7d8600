// GLM-4-0414: norms before and after attention and MLP, interleaved partial rotary embedding, gate and up in
// one matrix.
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"

namespace autoglm {
namespace {

class Glm4Layer final : public LayerBlock {
 public:
  Glm4Layer(const ModelConfig& config, std::int64_t index)
      : LayerBlock(config, index, config.tensor_prefix + "layers."),
        input_norm_(add_stream_norm(ops::NormKind::rms, "input_layernorm")),
        attention_(*this, config, {}),
        after_attention_norm_(add_stream_norm(ops::NormKind::rms, "post_self_attn_layernorm")),
        mlp_norm_(add_stream_norm(ops::NormKind::rms, "post_attention_layernorm")),
        mlp_(*this, config, GatedMlp::Layout::together),
        after_mlp_norm_(add_stream_norm(ops::NormKind::rms, "post_mlp_layernorm")) {}

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    ops::Residual residual = attention_.forward({.stream = x}, input_norm_, context);
    residual.after = after_attention_norm_;
    residual = mlp_.forward(std::move(residual), mlp_norm_, context);
    residual.after = after_mlp_norm_;
    return ops::join(std::move(residual));
  }

 private:
  // In the order of the flat buffer.
  ops::Norm input_norm_;
  SelfAttention attention_;
  ops::Norm after_attention_norm_, mlp_norm_;
  GatedMlp mlp_;
  ops::Norm after_mlp_norm_;
};

ModelConfig parse_glm4(const JsonFields& fields) {
  require_not_null(fields, {"num_key_value_heads", "head_dim"});
  ModelConfig config = read_llama_fields(fields, {.norm_epsilon = 1.5625e-07,
                                                  .max_positions = 131072,
                                                  .attention_bias = true,
                                                  .key_heads = 2,
                                                  .head_dim = 128,
                                                  .rotated = 0.5});
  config.rotary.front().interleaved = true;
  return config;
}

}  // namespace

Architecture glm4() {
  return {.model_type = "glm4",
          .known_as = "GLM-4-0414",
          .parse = parse_glm4,
          .layer = make_layer<Glm4Layer>,
          .ignored_tensors = {"*rotary_emb.*"}};
}

}  // namespace autoglm
