// What an architecture is: one file defines it, and one line names it in the table of architecture.cpp.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "trainer/models/block.h"
#include "trainer/models/config_reader.h"

namespace autoglm {

// "embed_tokens.weight" after `prefix`, or the head's name where tied embeddings are in the files under that alone.
std::string table_name(const ModelConfig& config, const std::string& prefix);
// Its rows.
std::unique_ptr<EmbeddingBlock> token_embedding(const ModelConfig& config);
// An RMSNorm "norm" and the vocabulary matrix: `tied` is the embedding's table when the model shares it, else
// null: then the head owns its own.
std::unique_ptr<HeadBlock> rms_norm_head(const ModelConfig& config, Parameter* tied);

// A layer whose class is built from these.
template <typename Layer>
std::unique_ptr<LayerBlock> make_layer(const ModelConfig& config, std::int64_t index) {
  return std::make_unique<Layer>(config, index);
}

struct Architecture {
  std::string model_type;  // as config.json spells it
  std::string known_as;    // what people call its models
  // Reads config.json; throws Error(bad_data) that names the field.
  ModelConfig (*parse)(const JsonFields& fields);

  // The blocks. Layers are numbered from 0.
  std::unique_ptr<LayerBlock> (*layer)(const ModelConfig& config, std::int64_t index);
  std::unique_ptr<EmbeddingBlock> (*embedding)(const ModelConfig& config) = token_embedding;
  std::unique_ptr<HeadBlock> (*head)(const ModelConfig& config, Parameter* tied) = rms_norm_head;

  // Tensors that old files hold and nothing reads: they follow from the configuration. Patterns as in a shell.
  std::vector<std::string> ignored_tensors = {};
};

// All that are supported.
std::span<const Architecture> architectures();
// Adds one, before it is looked for: for tests.
void add_architecture(Architecture architecture);
// The one of a configuration. Throws Error(bug) when there is none.
const Architecture& architecture_of(const ModelConfig& config);

// Makes the configuration's names those of the files at hand, as transformers finds them: `exists` says whether they
// hold a tensor. A model may have been saved without its head (no "model." before its names), or inside another
// "model."; tied embeddings may be there under the head's name alone.
void choose_tensor_names(ModelConfig& config, const std::function<bool(const std::string&)>& exists);

}  // namespace autoglm
