// Qwen2 and Qwen2.5 (Yang et al., 2024): a LLaMA layer whose queries, keys and values have biases.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"

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

// A window is in use where it is switched on, has a size, and some layer slides.
void require_whole_attention(const JsonFields& fields, std::int64_t num_layers) {
  const bool window = fields.flag("use_sliding_window", false) &&
                      (fields.has("sliding_window") || !fields.value().contains("sliding_window"));
  if (fields.has("layer_types")) {
    const std::vector<std::string> types = fields.texts("layer_types");
    if (static_cast<std::int64_t>(types.size()) != num_layers)
      fail(ExitCode::bad_data, "{}: \"layer_types\" names {} layers, but \"num_hidden_layers\" is {}",
           fields.where(), types.size(), num_layers);
    for (const std::string& type : types) {
      if (type != "full_attention")
        fail(ExitCode::bad_data, "{}: \"layer_types\" holds \"{}\"; only \"full_attention\" is supported",
             fields.where(), type);
    }
    return;
  }
  if (window && fields.number("max_window_layers", 28) < static_cast<double>(num_layers))
    require_flag(fields, "use_sliding_window", false);
}

ModelConfig parse_qwen2(const JsonFields& fields) {
  require_not_null(fields, {"use_sliding_window", "max_window_layers"});
  ModelConfig config = read_llama_fields(fields, {.max_positions = 32768, .key_heads = 32});
  require_whole_attention(fields, config.num_layers);
  // Without parameters for all layers together, those by kind of layer would be passed over.
  if (fields.value().contains("rope_parameters") && fields.value().at("rope_parameters").is_object() &&
      fields.value().at("rope_parameters").contains("full_attention"))
    fail(ExitCode::bad_data,
         "{}: \"rope_parameters\" are given by kind of layer, which this architecture does not read; give "
         "them once",
         fields.where());
  config.attention_bias = true;  // whatever the file says
  return config;
}

}  // namespace

Architecture qwen2() {
  return {.model_type = "qwen2",
          .known_as = "Qwen2, Qwen2.5",
          .parse = parse_qwen2,
          .layer = make_layer<Qwen2Layer>,
          .ignored_tensors = {"*rotary_emb.*"}};
}

}  // namespace autoglm
