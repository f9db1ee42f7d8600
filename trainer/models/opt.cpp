// OPT (Zhang et al., 2022): LayerNorms and biases everywhere, ReLU, learned positions; one size has its norms
// behind the sums and a narrower embedding.
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"
#include "trainer/ops/embedding.h"
#include "trainer/ops/linear.h"

namespace autoglm {
namespace {

// The first rows of the table of positions, which no token uses.
constexpr std::int64_t kPositionOffset = 2;

std::string decoder_prefix(const ModelConfig& config) {
  return config.tensor_prefix + "decoder.";
}

bool projects(const ModelConfig& config) {
  return config.embedding_size != config.hidden_size;
}

// Rows of two tables: by token id, projected to the layers' width, and by the place in the document.
class OptEmbedding final : public EmbeddingBlock {
 public:
  explicit OptEmbedding(const ModelConfig& config)
      : EmbeddingBlock(table_name(config, decoder_prefix(config)), config.vocabulary_size,
                       config.embedding_size) {
    const std::string prefix = decoder_prefix(config);
    positions_ = add_parameter(prefix + "embed_positions.weight",
                               {config.max_positions + kPositionOffset, config.hidden_size});
    if (projects(config)) {
      project_in_ = add_projection(prefix + "project_in", config.hidden_size, config.embedding_size, false);
    }
  }

  bool backward_reads_weights() const override { return project_in_.weight != nullptr; }

  at::Tensor forward(const at::Tensor& anchor, const ForwardContext& context) override {
    at::Tensor tokens = EmbeddingBlock::forward(anchor, context);
    if (project_in_.weight != nullptr) tokens = ops::linear(tokens, project_in_);
    const at::Tensor places = context.positions.to(at::kLong).view(context.ids.sizes());
    return ops::join(
        {.stream = tokens, .branch = ops::embedding(places, *positions_, anchor, kPositionOffset)});
  }

 private:
  Parameter* positions_;
  ops::Projection project_in_;
};

std::unique_ptr<EmbeddingBlock> opt_embedding(const ModelConfig& config) {
  return std::make_unique<OptEmbedding>(config);
}

std::unique_ptr<HeadBlock> opt_head(const ModelConfig& config, Parameter* tied) {
  auto block = std::make_unique<HeadBlock>();
  const std::string prefix = decoder_prefix(config);
  if (config.norm_first) {
    block->head.norm = block->add_norm(ops::NormKind::layer, prefix + "final_layer_norm", config.hidden_size,
                                       config.norm_epsilon);
  }
  if (projects(config)) {
    block->head.projection =
        block->add_parameter(prefix + "project_out.weight", {config.embedding_size, config.hidden_size});
  }
  block->head.weight =
      tied != nullptr
          ? tied
          : block->add_parameter(config.head_name, {config.vocabulary_size, config.embedding_size});
  return block;
}

class OptLayer final : public LayerBlock {
 public:
  OptLayer(const ModelConfig& config, std::int64_t index)
      : LayerBlock(config, index, decoder_prefix(config) + "layers."),
        norm_first_(config.norm_first),
        attention_(*this, config, {.output_name = "out_proj", .output_bias = true}),
        attention_norm_(add_stream_norm(ops::NormKind::layer, "self_attn_layer_norm")),
        up_(add_projection("fc1", config.intermediate_size, config.hidden_size, true)),
        down_(add_projection("fc2", config.hidden_size, config.intermediate_size, true)),
        mlp_norm_(add_stream_norm(ops::NormKind::layer, "final_layer_norm")) {}

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    // A norm stands either before a branch or behind its sum with the stream.
    const ops::Norm none;
    const ops::Norm& before_attention = norm_first_ ? attention_norm_ : none;
    const ops::Norm& before_mlp = norm_first_ ? mlp_norm_ : none;
    ops::Residual residual = attention_.forward({.stream = x}, before_attention, context);
    if (!norm_first_) {
      const at::Tensor sum = ops::join(std::exchange(residual, {}));
      residual.stream = ops::normalize(sum, attention_norm_);
    }
    const at::Tensor y = ops::join(mlp(std::move(residual), before_mlp, context));
    return norm_first_ ? y : ops::normalize(y, mlp_norm_);
  }

 private:
  // A function of its own, so that what is not kept for the backward is gone before the sum.
  ops::Residual mlp(ops::Residual residual, const ops::Norm& norm, const ForwardContext& context) {
    const auto [stream, up] = ops::norm_linear(std::move(residual), norm, {&up_, 1}, context.keep_inputs);
    return {.stream = stream, .branch = ops::relu_linear(up[0], down_)};
  }

  bool norm_first_;
  // In the order of the flat buffer.
  SelfAttention attention_;
  ops::Norm attention_norm_;
  ops::Projection up_, down_;
  ops::Norm mlp_norm_;
};

// Its fields have names of their own, and biases and the final norm are never left out.
ModelConfig parse_opt(const JsonFields& fields) {
  const std::string& where = fields.where();
  require_not_null(fields, {"activation_function", "do_layer_norm_before", "max_position_embeddings",
                            "tie_word_embeddings", "enable_bias", "layer_norm_elementwise_affine",
                            "_remove_final_layer_norm", "dropout", "attention_dropout", "layerdrop"});
  const std::string activation = fields.text("activation_function", "relu");
  if (activation != "relu") {
    fail(ExitCode::bad_data, "{}: \"activation_function\" is \"{}\"; only \"relu\" is supported", where,
         activation);
  }
  require_no_dropout(fields);
  require_flag(fields, "enable_bias", true);
  require_flag(fields, "layer_norm_elementwise_affine", true);
  require_flag(fields, "_remove_final_layer_norm", false);
  ModelConfig config = read_sizes(fields);
  config.intermediate_size = fields.positive("ffn_dim");
  config.max_positions = fields.positive("max_position_embeddings", 2048);
  config.num_key_heads = config.num_heads;
  config.head_dim = divided_head_dim(config, fields);
  require_possible_size(config, fields);
  config.attention_bias = config.mlp_bias = true;
  config.norm_epsilon = 1e-5;
  config.norm_first = fields.flag("do_layer_norm_before", true);
  config.embedding_size = fields.positive("word_embed_proj_dim", config.hidden_size);
  config.tied_embeddings = fields.flag("tie_word_embeddings", true);
  config.dropout = fields.number("dropout", 0.1);
  if (fields.number("layerdrop", 0) != 0) {
    fail(ExitCode::bad_data, "{}: \"layerdrop\" is not 0; leaving out layers is not supported", where);
  }
  if (!config.norm_first && config.embedding_size == config.hidden_size && config.tied_embeddings) {
    fail(ExitCode::bad_data,
         "{}: \"do_layer_norm_before\" is false and \"word_embed_proj_dim\" is that of the layers; such a "
         "model has no head of its own and is not supported",
         where);
  }
  return config;
}

}  // namespace

Architecture opt() {
  return {.model_type = "opt",
          .known_as = "OPT",
          .parse = parse_opt,
          .layer = make_layer<OptLayer>,
          .embedding = opt_embedding,
          .head = opt_head,
          .ignored_tensors = {"*decoder.version"}};
}

}  // namespace autoglm
