// OPT (Zhang et al., 2022): LayerNorms and biases everywhere, ReLU, learned positions; one size has its norms
// behind the sums and a narrower embedding.
#include "trainer/models/attention_core.h"
#include "trainer/models/model.h"
#include "trainer/ops/embedding.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/residual.h"

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
      : EmbeddingBlock(decoder_prefix(config) + "embed_tokens.weight", config.vocabulary_size,
                       config.embedding_size) {
    const std::string prefix = decoder_prefix(config);
    positions_ = add_parameter(prefix + "embed_positions.weight",
                               {config.max_positions + kPositionOffset, config.hidden_size});
    if (projects(config)) {
      project_in_.weight =
          add_parameter(prefix + "project_in.weight", {config.hidden_size, config.embedding_size});
    }
  }

  bool backward_reads_weights() const override { return project_in_.weight != nullptr; }

  at::Tensor forward(const at::Tensor& anchor, const ForwardContext& context) override {
    at::Tensor tokens = EmbeddingBlock::forward(anchor, context);
    if (project_in_.weight != nullptr) tokens = ops::linear(tokens, project_in_);
    const at::Tensor places = context.positions.to(at::kLong).view(context.ids.sizes());
    return at::add(tokens, ops::embedding(places, *positions_, anchor, kPositionOffset));
  }

 private:
  Parameter* positions_;
  ops::Projection project_in_;
};

class OptHead final : public HeadBlock {
 public:
  OptHead(const ModelConfig& config, Parameter* tied) {
    const std::string prefix = decoder_prefix(config);
    if (config.norm_first) {
      Parameter* weight = add_parameter(prefix + "final_layer_norm.weight", {config.hidden_size}, false);
      Parameter* bias = add_parameter(prefix + "final_layer_norm.bias", {config.hidden_size}, false);
      head_.norm = {weight, config.norm_epsilon, bias};
    }
    if (projects(config)) {
      head_.projection =
          add_parameter(prefix + "project_out.weight", {config.embedding_size, config.hidden_size});
    }
    head_.weight = tied != nullptr
                       ? tied
                       : add_parameter("lm_head.weight", {config.vocabulary_size, config.embedding_size});
  }
};

class OptLayer final : public Block {
 public:
  OptLayer(const ModelConfig& config, std::int64_t index)
      : Block(fmt::format("layer {}", index)),
        index_(index),
        shape_(config),
        norm_first_(config.norm_first),
        prefix_(fmt::format("{}layers.{}.", decoder_prefix(config), index)) {
    const std::int64_t hidden = config.hidden_size, ffn = config.intermediate_size;
    const ops::Projection query = projection("self_attn.q_proj", hidden, hidden);
    const ops::Projection key = projection("self_attn.k_proj", hidden, hidden);
    qkv_ = {query, key, projection("self_attn.v_proj", hidden, hidden)};
    output_ = projection("self_attn.out_proj", hidden, hidden);
    attention_norm_ = norm("self_attn_layer_norm", config);
    up_ = projection("fc1", ffn, hidden);
    down_ = projection("fc2", hidden, ffn);
    mlp_norm_ = norm("final_layer_norm", config);
  }

  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    // A norm stands either before a branch or behind its sum with the stream.
    const ops::Norm none;
    const ops::Norm& before_attention = norm_first_ ? attention_norm_ : none;
    const ops::Norm& before_mlp = norm_first_ ? mlp_norm_ : none;
    const auto [stream, attention_input] = ops::branch_off(x);
    at::Tensor sum =
        at::add(stream, ops::linear(attend_to(attention_input, before_attention, context), output_));
    if (!norm_first_) sum = ops::normalize(sum, attention_norm_);
    const auto [h, mlp_input] = ops::branch_off(std::exchange(sum, at::Tensor()));
    const at::Tensor y = at::add(h, mlp(mlp_input, before_mlp, context));
    return norm_first_ ? y : ops::normalize(y, mlp_norm_);
  }

 private:
  ops::Projection projection(const std::string& name, std::int64_t out, std::int64_t in) {
    Parameter* weight = add_parameter(prefix_ + name + ".weight", {out, in});
    return {weight, add_parameter(prefix_ + name + ".bias", {out}, false)};
  }
  ops::Norm norm(const std::string& name, const ModelConfig& config) {
    Parameter* weight = add_parameter(prefix_ + name + ".weight", {config.hidden_size}, false);
    return {weight, config.norm_epsilon,
            add_parameter(prefix_ + name + ".bias", {config.hidden_size}, false)};
  }

  // Functions of their own, so that what is not kept for the backward is gone before the next part begins.
  at::Tensor attend_to(const at::Tensor& x, const ops::Norm& norm, const ForwardContext& context) {
    const std::vector<at::Tensor> qkv = ops::norm_linear(x, norm, qkv_, context.keep_inputs);
    return attend(qkv[0], qkv[1], qkv[2], shape_, index_, context);
  }
  at::Tensor mlp(const at::Tensor& h, const ops::Norm& norm, const ForwardContext& context) {
    return ops::relu_linear(ops::norm_linear(h, norm, {&up_, 1}, context.keep_inputs)[0], down_);
  }

  std::int64_t index_;
  AttentionCore shape_;
  bool norm_first_;
  std::string prefix_;
  ops::Norm attention_norm_, mlp_norm_;
  std::vector<ops::Projection> qkv_;
  ops::Projection output_, up_, down_;
};

}  // namespace

std::unique_ptr<Block> make_opt_layer(const ModelConfig& config, std::int64_t index) {
  return std::make_unique<OptLayer>(config, index);
}

std::unique_ptr<EmbeddingBlock> make_opt_embedding(const ModelConfig& config) {
  return std::make_unique<OptEmbedding>(config);
}

std::unique_ptr<HeadBlock> make_opt_head(const ModelConfig& config, Parameter* tied) {
  return std::make_unique<OptHead>(config, tied);
}

}  // namespace autoglm
