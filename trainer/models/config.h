// A model's configuration, read from config.json in the spellings of transformers 4 and 5.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/ops/rotary.h"

namespace autoglm {

struct ModelConfig {
  std::string model_type;  // "llama", "glm4", "opt"
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_key_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t vocabulary_size = 0;
  std::int64_t max_positions = 0;
  double norm_epsilon = 1e-6;
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tied_embeddings = false;
  // Width of the embedding's table; a projection leads to hidden_size where it is another, and one back.
  std::int64_t embedding_size = 0;
  // Norms before attention and MLP; otherwise after their sums with the stream (opt alone).
  bool norm_first = true;
  // The dropout that the configuration asks for. Training applies none.
  double dropout = 0;
  // What stands before the names of tensors in the model's files: "model.", nothing where the model was saved
  // without its head, or a second "model." of a wrapper.
  std::string tensor_prefix = "model.";
  // The head's matrix in the model's files.
  std::string head_name = "lm_head.weight";
  // Tied embeddings may be in the files under the head's name alone.
  bool table_under_head_name = false;
  // Rotary embeddings, by the number by which layers name theirs; none: the model has learned positions.
  std::vector<ops::RotarySpec> rotary;
  std::vector<std::int32_t> eos_ids;
  std::optional<std::int32_t> pad_id;
  // What a person should know of how it was read: spellings that contradict, fields without effect.
  std::vector<std::string> remarks;

  // Tokens that a document may have at most: a table of learned positions ends there, rotary embeddings do
  // not.
  std::optional<std::int64_t> position_limit() const;
};

// Reads and validates the configuration of a supported model. Throws Error(bad_data) that names the field:
// an unknown architecture, a missing or impossible value, or a feature that would change the numbers and is
// not supported (for example an activation of another kind, or an unknown rope type). `where` names the
// file in messages.
ModelConfig parse_model_config(const nlohmann::json& config, const std::string& where);

// Throws Error(usage) that names the option when it asks for more positions than the model has.
void check_positions(const ModelConfig& config, const char* option, std::int64_t positions);

// The rope parameters as transformers 5 takes them: "rope_scaling" where it is filled, else "rope_parameters", and
// what stands beside them (transformers 4's spelling) where they are silent. Always has "rope_theta" and
// "rope_type"; where two spellings contradict, a remark says which is taken.
nlohmann::json read_rope_parameters(const nlohmann::json& config, double default_theta,
                                    std::int64_t max_positions, const std::string& where,
                                    std::vector<std::string>& remarks);

// Inverse frequencies of `rotated` dimensions as transformers computes them in fp32 from what
// read_rope_parameters() gives: plain, or scaled (types default, linear, llama3, yarn). Formulas: Su et al. 2021;
// the llama3 type is the one of Llama 3.1's release; YaRN: Peng et al. 2023.
ops::RotarySpec make_rotary_spec(const nlohmann::json& parameters, std::int64_t rotated,
                                 std::int64_t max_positions, const std::string& where);

}  // namespace autoglm
