#include "trainer/models/model.h"

#include <algorithm>
#include <numeric>

#include "trainer/models/architecture.h"

namespace autoglm {

std::vector<std::size_t> Model::places(BlockRole role) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i]->role() == role) found.push_back(i);
  }
  return found;
}

std::size_t Model::place(BlockRole role) const {
  const auto found =
      std::find_if(blocks.begin(), blocks.end(), [&](const auto& block) { return block->role() == role; });
  AUTOGLM_CHECK(found != blocks.end(), "the model has no block of a role");
  return static_cast<std::size_t>(found - blocks.begin());
}

EmbeddingBlock& Model::embedding() const {
  return static_cast<EmbeddingBlock&>(*blocks[place(BlockRole::embedding)]);
}

std::vector<LayerBlock*> Model::layers() const {
  std::vector<LayerBlock*> all;
  for (const std::size_t place : places(BlockRole::layer))
    all.push_back(static_cast<LayerBlock*>(blocks[place].get()));
  return all;
}

HeadBlock& Model::head() const {
  return static_cast<HeadBlock&>(*blocks[place(BlockRole::head)]);
}

std::vector<Parameter*> Model::parameters() const {
  std::vector<Parameter*> all;
  for (const auto& block : blocks) {
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
  std::vector<std::int64_t> all(static_cast<std::size_t>(config.num_layers));
  std::iota(all.begin(), all.end(), 0);
  return make_model(config, all);
}

Model make_model(const ModelConfig& config, std::span<const std::int64_t> layers) {
  const Architecture& architecture = architecture_of(config);
  Model model{config, {}};
  model.blocks.push_back(architecture.embedding(config));
  for (const std::int64_t number : layers) model.blocks.push_back(architecture.layer(config, number));
  model.blocks.push_back(
      architecture.head(config, config.tied_embeddings ? &model.embedding().table() : nullptr));
  return model;
}

std::vector<TensorCopy> possible_copies(const Model& model) {
  if (!model.config.tied_embeddings || model.config.table_under_head_name) return {};
  return {{model.config.head_name, model.embedding().table().name()}};
}

}  // namespace autoglm
