#include "trainer/models/architecture.h"

#include <algorithm>

namespace autoglm {

// Each in its own file.
Architecture llama(), glm4(), opt(), qwen2();

namespace {

std::vector<Architecture>& table() {
  static std::vector<Architecture> all = {llama(), glm4(), opt(), qwen2()};
  return all;
}

}  // namespace

std::span<const Architecture> architectures() {
  return table();
}

void add_architecture(Architecture architecture) {
  table().push_back(std::move(architecture));
}

const Architecture& architecture_of(const ModelConfig& config) {
  const auto all = architectures();
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const Architecture& one) { return one.model_type == config.model_type; });
  AUTOGLM_CHECK(found != all.end(), "there is no architecture \"{}\"", config.model_type);
  return *found;
}

std::string table_name(const ModelConfig& config, const std::string& prefix) {
  return config.table_under_head_name ? config.head_name : prefix + "embed_tokens.weight";
}

std::unique_ptr<EmbeddingBlock> token_embedding(const ModelConfig& config) {
  return std::make_unique<EmbeddingBlock>(table_name(config, config.tensor_prefix), config.vocabulary_size,
                                          config.hidden_size);
}

std::unique_ptr<HeadBlock> rms_norm_head(const ModelConfig& config, Parameter* tied) {
  auto block = std::make_unique<HeadBlock>();
  block->head.norm = block->add_norm(ops::NormKind::rms, config.tensor_prefix + "norm", config.hidden_size,
                                     config.norm_epsilon);
  block->head.weight =
      tied != nullptr ? tied
                      : block->add_parameter(config.head_name, {config.vocabulary_size, config.hidden_size});
  return block;
}

void choose_tensor_names(ModelConfig& config, const std::function<bool(const std::string&)>& exists) {
  const Architecture& architecture = architecture_of(config);
  for (const char* outer : {"", "model."}) {
    for (const char* prefix : {"model.", ""}) {
      ModelConfig candidate = config;
      candidate.tensor_prefix = std::string(outer) + prefix;
      candidate.head_name = outer + config.head_name;
      if (!exists(architecture.layer(candidate, 0)->parameters().front().name())) continue;
      candidate.table_under_head_name = config.tied_embeddings &&
                                        !exists(architecture.embedding(candidate)->table().name()) &&
                                        exists(candidate.head_name);
      config = std::move(candidate);
      return;
    }
  }
}

}  // namespace autoglm
