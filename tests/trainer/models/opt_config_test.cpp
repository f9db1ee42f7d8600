// OPT's configuration in its own words, and what of it is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// A size of OPT whose norms stand behind the sums, small.
json norms_last() {
  return json::parse(
      R"({"model_type": "opt", "architectures": ["OPTForCausalLM"], "_remove_final_layer_norm": false,
    "activation_dropout": 0.0, "activation_function": "relu", "attention_dropout": 0.0, "bos_token_id": 2,
    "do_layer_norm_before": false, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 96, "hidden_size": 32,
    "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 64, "num_attention_heads": 4,
    "num_hidden_layers": 2, "pad_token_id": 1, "prefix": "</s>", "torch_dtype": "float16", "use_cache": true,
    "vocab_size": 100, "word_embed_proj_dim": 20})");
}

std::string refusal(const std::string& key, const json& value) {
  json object = norms_last();
  object[key] = value;
  try {
    parse_model_config(object, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    return error.what();
  }
  ADD_FAILURE() << key << " " << value << " was taken";
  return "";
}

TEST(OptConfig, ReadsItsOwnNames) {
  const ModelConfig config = parse_model_config(norms_last(), "config.json");
  EXPECT_EQ(config.hidden_size, 32);
  EXPECT_EQ(config.embedding_size, 20);
  EXPECT_EQ(config.intermediate_size, 96);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_key_heads, 4);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.dropout, 0.1);
  EXPECT_EQ(config.position_limit(), 64);
  EXPECT_EQ(config.pad_id, 1);
  EXPECT_EQ(config.eos_ids, std::vector<std::int32_t>{2});
  EXPECT_FALSE(config.norm_first);
  EXPECT_TRUE(config.tied_embeddings);
}

TEST(OptConfig, LeavesOutWhatTransformersLeavesOut) {
  json object = norms_last();
  for (const char* key : {"do_layer_norm_before", "dropout", "activation_function"}) object.erase(key);
  object["word_embed_proj_dim"] = nullptr;
  object["tie_word_embeddings"] = false;
  const ModelConfig config = parse_model_config(object, "config.json");
  EXPECT_TRUE(config.norm_first);
  EXPECT_EQ(config.embedding_size, 32);
  EXPECT_EQ(config.dropout, 0.1);
  EXPECT_FALSE(config.tied_embeddings);
}

TEST(OptConfig, RefusesWhatWouldChangeTheNumbers) {
  EXPECT_THAT(refusal("activation_function", "gelu"),
              AllOf(HasSubstr("activation_function"), HasSubstr("gelu")));
  EXPECT_THAT(refusal("attention_dropout", 0.1), HasSubstr("attention_dropout"));
  EXPECT_THAT(refusal("layerdrop", 0.2), HasSubstr("layerdrop"));
  EXPECT_THAT(refusal("enable_bias", false), HasSubstr("\"enable_bias\" is false"));
  EXPECT_THAT(refusal("layer_norm_elementwise_affine", false), HasSubstr("layer_norm_elementwise_affine"));
  EXPECT_THAT(refusal("_remove_final_layer_norm", true), HasSubstr("\"_remove_final_layer_norm\" is true"));
  EXPECT_THAT(refusal("num_attention_heads", 5), HasSubstr("num_attention_heads"));
  EXPECT_THAT(refusal("ffn_dim", nullptr), HasSubstr("\"ffn_dim\" is missing"));
  EXPECT_THAT(refusal("dropout", "much"), HasSubstr("dropout"));
  EXPECT_THAT(refusal("word_embed_proj_dim", 32), HasSubstr("word_embed_proj_dim"));
  EXPECT_THAT(refusal("hidden_size", 1 << 29), HasSubstr("more than the 1e+13 that are supported"));
}

TEST(OptConfig, NamesTensorsAsItsFilesDo) {
  ModelConfig config = parse_model_config(norms_last(), "config.json");
  for (const char* prefix : {"model.", ""}) {
    config.tensor_prefix = prefix;
    const Model model = make_model(config);
    std::vector<std::string> names;
    for (const Parameter* parameter : model.parameters()) {
      EXPECT_TRUE(parameter->name().starts_with(config.tensor_prefix + "decoder.")) << parameter->name();
      // Weight decay is for matrices and tables.
      EXPECT_EQ(parameter->spec().decays, parameter->spec().shape.size() == 2) << parameter->name();
      names.push_back(parameter->name().substr(config.tensor_prefix.size()));
    }
    EXPECT_EQ(names.size(), 3u + 2 * 16 + 1);
    EXPECT_THAT(names, testing::IsSupersetOf({"decoder.embed_tokens.weight", "decoder.embed_positions.weight",
                                              "decoder.project_in.weight", "decoder.project_out.weight",
                                              "decoder.layers.1.self_attn.out_proj.bias",
                                              "decoder.layers.0.self_attn_layer_norm.weight",
                                              "decoder.layers.1.final_layer_norm.bias"}));
  }
}

}  // namespace
}  // namespace autoglm
