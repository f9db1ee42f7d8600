// A model's config.json, in the spellings of all architectures.
#include "trainer/models/config.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {

std::vector<std::string> seeds() {
  return {
      R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 2048,
"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "attention_bias": false,
"hidden_act": "silu", "eos_token_id": [1, 2], "pad_token_id": 0, "torch_dtype": "bfloat16"})",
      R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32,
"intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 131072, "rope_scaling": {"factor": 32.0,
"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}})",
      R"({"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 32768,
"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 2, "rope_parameters": {"rope_type": "yarn",
"factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6, "beta_fast": 32, "beta_slow": 1}})",
      R"({"model_type": "glm4", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 256, "max_position_embeddings": 32768,
"head_dim": 16, "partial_rotary_factor": 0.5, "attention_bias": true, "rms_norm_eps": 1e-5})",
      R"({"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 256,
"vocab_size": 256, "max_position_embeddings": 512, "word_embed_proj_dim": 32, "do_layer_norm_before": true,
"activation_function": "relu", "dropout": 0.1})"};
}

std::vector<std::string> words() {
  return {"\"llama\"",
          "\"glm4\"",
          "\"opt\"",
          "\"qwen2\"",
          "\"rope_scaling\"",
          "\"rope_parameters\"",
          "\"rope_type\"",
          "\"type\"",
          "\"yarn\"",
          "\"llama3\"",
          "\"linear\"",
          "\"default\"",
          "\"dynamic\"",
          "\"factor\"",
          "\"partial_rotary_factor\"",
          "\"head_dim\"",
          "\"quantization_config\"",
          "\"mscale\"",
          "\"mscale_all_dim\"",
          "\"truncate\"",
          "\"attention_factor\"",
          "\"rope_theta\"",
          "true",
          "false",
          "null",
          "1e308",
          "1e-308",
          "1e19",
          "-1e300",
          "\"layer_types\"",
          "\"full_attention\"",
          "\"sliding_attention\""};
}

void read(std::string_view input) {
  const ModelConfig config = parse_model_config(parse_json(input, "config.json"), "config.json");
  AUTOGLM_CHECK(config.hidden_size > 0 && config.num_layers > 0 && config.num_heads > 0 &&
                config.head_dim > 0 && config.num_heads % config.num_key_heads == 0 &&
                config.vocabulary_size > 0);
  for (const ops::RotarySpec& one : config.rotary)
    AUTOGLM_CHECK(static_cast<std::int64_t>(2 * one.inverse_frequencies.size()) <= config.head_dim);
}

}  // namespace autoglm::fuzz
