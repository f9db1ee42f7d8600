#include "trainer/models/model.h"

#include "trainer/models/architecture.h"

namespace autoglm {

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

Model make_model(const ModelConfig& config) {
  const Architecture& architecture = architecture_of(config);
  Model model;
  model.config = config;
  model.embedding = architecture.embedding(config);
  for (std::int64_t i = 0; i < config.num_layers; ++i) model.layers.push_back(architecture.layer(config, i));
  model.head = architecture.head(config, config.tied_embeddings ? &model.embedding->table() : nullptr);
  return model;
}

std::vector<TensorCopy> possible_copies(const Model& model) {
  if (!model.config.tied_embeddings) return {};
  return {{kHeadName, model.embedding->table().name()}};
}

}  // namespace autoglm
