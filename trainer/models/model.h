// A whole language model as a chain of blocks.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/models/block.h"
#include "trainer/models/config.h"

namespace autoglm {

struct Model {
  ModelConfig config;
  // In the order of the forward pass: the embedding, the layers, the head.
  std::vector<std::unique_ptr<Block>> blocks;

  // Where blocks of a role stand in the list, in its order; where the first of them does.
  std::vector<std::size_t> places(BlockRole role) const;
  std::size_t place(BlockRole role) const;

  EmbeddingBlock& embedding() const;
  std::vector<LayerBlock*> layers() const;
  HeadBlock& head() const;

  // Every parameter that the model owns; a tied matrix once.
  std::vector<Parameter*> parameters() const;
  std::int64_t num_parameters() const;
};

// Builds the blocks of a configuration; no tensor is allocated. Throws Error(bug) for an unknown
// architecture.
Model make_model(const ModelConfig& config);
// The same with these of its layers alone, by number. One may be there twice.
Model make_model(const ModelConfig& config, std::span<const std::int64_t> layers);

// A tensor of a model's files that repeats one of its parameters.
struct TensorCopy {
  std::string name;
  std::string of;
};
// The matrix of tied embeddings may be written a second time under the head's name.
std::vector<TensorCopy> possible_copies(const Model& model);

}  // namespace autoglm
