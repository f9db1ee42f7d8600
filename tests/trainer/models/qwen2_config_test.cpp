// What Qwen2's configuration leaves unsaid, and what of it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

nlohmann::json config_of(bool slides) {
  return {{"model_type", "qwen2"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 260},
          {"rope_theta", 1000000.0},
          {"tie_word_embeddings", true},
          {"sliding_window", 131072},
          {"max_window_layers", 1},
          {"use_sliding_window", slides},
          {"max_position_embeddings", 256}};
}

TEST(Qwen2Config, QueriesKeysAndValuesHaveBiases) {
  const Model model = make_model(parse_model_config(config_of(false), "config.json"));
  std::vector<std::string> biases;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->name().ends_with(".bias")) biases.push_back(parameter->name());
  }
  EXPECT_THAT(biases, testing::ElementsAre(
                          "model.layers.0.self_attn.q_proj.bias", "model.layers.0.self_attn.k_proj.bias",
                          "model.layers.0.self_attn.v_proj.bias", "model.layers.1.self_attn.q_proj.bias",
                          "model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.v_proj.bias"));
}

TEST(Qwen2Config, RefusesASlidingWindow) {
  try {
    parse_model_config(config_of(true), "config.json");
    ADD_FAILURE() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_STREQ(error.what(), "config.json: \"use_sliding_window\" is true, which is not supported");
  }
}

}  // namespace
}  // namespace autoglm
