#include "trainer/models/model.h"

#include <algorithm>

#include "trainer/ops/embedding.h"

namespace autoglm {

HeadBlock::HeadBlock(const ModelConfig& config, std::string norm_name, Parameter* tied) : Block("head") {
  head_.norm = {add_parameter(std::move(norm_name), {config.hidden_size}, false), config.norm_epsilon};
  head_.weight =
      tied != nullptr ? tied : add_parameter("lm_head.weight", {config.vocabulary_size, config.hidden_size});
}

at::Tensor HeadBlock::forward(const at::Tensor&, const ForwardContext&) {
  AUTOGLM_CHECK(false, "the head runs through head_loss");
}

bool HeadBlock::reads_table() const {
  return std::none_of(parameters().begin(), parameters().end(),
                      [&](const Parameter& own) { return &own == head_.weight; });
}

EmbeddingBlock::EmbeddingBlock(std::string table_name, std::int64_t vocabulary, std::int64_t width)
    : Block("embedding") {
  add_parameter(std::move(table_name), {vocabulary, width});
}

at::Tensor EmbeddingBlock::forward(const at::Tensor& anchor, const ForwardContext& context) {
  return ops::embedding(context.ids, table(), anchor);
}

std::vector<Block*> Model::blocks() const {
  std::vector<Block*> all{embedding.get()};
  for (const auto& layer : layers) all.push_back(layer.get());
  all.push_back(head.get());
  return all;
}

std::vector<Parameter*> Model::parameters() const {
  std::vector<Parameter*> all;
  for (Block* block : blocks()) {
    for (Parameter& parameter : block->parameters()) all.push_back(&parameter);
  }
  return all;
}

std::int64_t Model::num_parameters() const {
  std::int64_t sum = 0;
  for (const Parameter* parameter : parameters()) sum += parameter->spec().num_elements();
  return sum;
}

namespace {

std::unique_ptr<Block> make_layer(const ModelConfig& config, std::int64_t index) {
  if (config.model_type == "opt") return make_opt_layer(config, index);
  return config.model_type == "glm4" ? make_glm4_layer(config, index) : make_llama_layer(config, index);
}

}  // namespace

Model make_model(const ModelConfig& config) {
  const bool opt = config.model_type == "opt";
  Model model;
  model.config = config;
  model.embedding = opt ? make_opt_embedding(config)
                        : std::make_unique<EmbeddingBlock>("model.embed_tokens.weight",
                                                           config.vocabulary_size, config.hidden_size);
  for (std::int64_t i = 0; i < config.num_layers; ++i) model.layers.push_back(make_layer(config, i));
  Parameter* tied = config.tied_embeddings ? &model.embedding->table() : nullptr;
  model.head =
      opt ? make_opt_head(config, tied) : std::make_unique<HeadBlock>(config, "model.norm.weight", tied);
  return model;
}

}  // namespace autoglm
