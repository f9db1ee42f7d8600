// A whole language model as a chain of blocks.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "trainer/models/block.h"
#include "trainer/models/config.h"
#include "trainer/ops/head.h"

namespace autoglm {

// What stands between the last layer and the logits. The loss is computed by ops::head_loss, in chunks.
class HeadBlock : public Block {
 public:
  // A final RMSNorm and the vocabulary matrix. `tied` is the embedding's table when the model shares it, else
  // null: then the head owns "lm_head.weight".
  HeadBlock(const ModelConfig& config, std::string norm_name, Parameter* tied);

  // Not used: the engine runs the head through ops::head_loss.
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) final;

  bool reads_table() const final;

  const ops::Head& head() const { return head_; }

 protected:
  // Any other head, which its architecture describes.
  HeadBlock() : Block("head") {}
  ops::Head head_;
};

// Rows of the table by token id.
class EmbeddingBlock : public Block {
 public:
  EmbeddingBlock(std::string table_name, std::int64_t vocabulary, std::int64_t width);
  at::Tensor forward(const at::Tensor& anchor, const ForwardContext& context) override;
  bool backward_reads_weights() const override { return false; }
  // The vocabulary matrix, the first of the parameters.
  Parameter& table() { return parameters().front(); }
};

struct Model {
  ModelConfig config;
  std::unique_ptr<EmbeddingBlock> embedding;
  std::vector<std::unique_ptr<Block>> layers;
  std::unique_ptr<HeadBlock> head;

  // Every block in the order of the forward pass.
  std::vector<Block*> blocks() const;
  // Every parameter that the model owns; a tied matrix once.
  std::vector<Parameter*> parameters() const;
  std::int64_t num_parameters() const;
};

// Builds the blocks of a supported configuration; no tensor is allocated.
Model make_model(const ModelConfig& config);

// One file per architecture.
std::unique_ptr<Block> make_llama_layer(const ModelConfig& config, std::int64_t index);
std::unique_ptr<Block> make_glm4_layer(const ModelConfig& config, std::int64_t index);
std::unique_ptr<Block> make_opt_layer(const ModelConfig& config, std::int64_t index);
std::unique_ptr<EmbeddingBlock> make_opt_embedding(const ModelConfig& config);
std::unique_ptr<HeadBlock> make_opt_head(const ModelConfig& config, Parameter* tied);

}  // namespace autoglm
