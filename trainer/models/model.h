// A whole language model as a chain of blocks.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/models/block.h"
#include "trainer/models/config.h"

namespace autoglm {

struct Model {
  ModelConfig config;
  std::unique_ptr<EmbeddingBlock> embedding;
  std::vector<std::unique_ptr<LayerBlock>> layers;
  std::unique_ptr<HeadBlock> head;

  // Every block in the order of the forward pass.
  std::vector<Block*> blocks() const;
  // Every parameter that the model owns; a tied matrix once.
  std::vector<Parameter*> parameters() const;
  std::int64_t num_parameters() const;
};

// Builds the blocks of a configuration; no tensor is allocated. Throws Error(bug) for an unknown
// architecture.
Model make_model(const ModelConfig& config);

// A tensor of a model's files that repeats one of its parameters.
struct TensorCopy {
  std::string name;
  std::string of;
};
// The matrix of tied embeddings may be written a second time under the head's name.
std::vector<TensorCopy> possible_copies(const Model& model);

}  // namespace autoglm
