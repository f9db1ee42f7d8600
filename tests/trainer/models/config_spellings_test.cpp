// Configurations in the spellings of transformers 4 and 5: which of two counts, and what is said of the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "trainer/models/architecture.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

json config_with(const json& fields, const std::string& type = "llama") {
  json config = {{"model_type", type},     {"hidden_size", 64},        {"intermediate_size", 96},
                 {"num_hidden_layers", 2}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                 {"vocab_size", 260},      {"head_dim", 16},           {"max_position_embeddings", 128}};
  config.update(fields);
  return config;
}

ModelConfig parse(const json& fields, const std::string& type = "llama") {
  return parse_model_config(config_with(fields, type), "config.json");
}

std::string refusal(const json& fields, const std::string& type = "llama") {
  try {
    parse(fields, type);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    return error.what();
  }
  ADD_FAILURE() << "it was taken: " << fields;
  return "";
}

std::vector<float> frequencies(const json& fields, const std::string& type = "llama") {
  return parse(fields, type).rotary.front().inverse_frequencies;
}

const json kLinear = {{"rope_type", "linear"}, {"factor", 2.0}};
const json kLlama3 = {
    {"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}};

TEST(ConfigSpellings, FilledRopeScalingCountsMoreThanRopeParameters) {
  const json both = {{"rope_scaling", kLinear},
                     {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}};
  EXPECT_EQ(frequencies(both), frequencies({{"rope_scaling", kLinear}}));
  EXPECT_THAT(parse(both).remarks, ElementsAre(HasSubstr("\"rope_scaling\" is taken")));
  const json empty = {{"rope_scaling", json::object()}, {"rope_parameters", kLinear}};
  EXPECT_EQ(frequencies(empty), frequencies({{"rope_parameters", kLinear}}));
  EXPECT_THAT(parse(empty).remarks, IsEmpty());
}

TEST(ConfigSpellings, WhatStandsAmongTheRopeParametersCountsMore) {
  const json inside = {{"rope_type", "default"}, {"rope_theta", 1e6}};
  const json both = {{"rope_theta", 5e5}, {"rope_parameters", inside}};
  EXPECT_EQ(frequencies(both), frequencies({{"rope_theta", 1e6}}));
  EXPECT_THAT(parse(both).remarks, ElementsAre(HasSubstr("\"rope_theta\" is 500000.0 beside")));
  EXPECT_THAT(parse({{"rope_theta", 1e6}, {"rope_parameters", inside}}).remarks, IsEmpty());
  const json types = {{"rope_scaling", {{"type", "linear"}, {"rope_type", "default"}, {"factor", 2.0}}}};
  EXPECT_EQ(frequencies(types), frequencies(json::object()));
  EXPECT_THAT(parse(types).remarks, ElementsAre(HasSubstr("\"rope_type\" \"default\", which is taken")));
}

TEST(ConfigSpellings, TheOriginalContextBesideTheRopeParametersCountsMore) {
  json inside = kLlama3;
  inside["original_max_position_embeddings"] = 32;
  const json both = {{"rope_scaling", inside}, {"original_max_position_embeddings", 64}};
  inside["original_max_position_embeddings"] = 64;
  EXPECT_EQ(frequencies(both), frequencies({{"rope_scaling", inside}}));
  EXPECT_THAT(parse(both).remarks, ElementsAre(HasSubstr("original_max_position_embeddings")));
  inside["original_max_position_embeddings"] = 128;
  EXPECT_EQ(frequencies({{"rope_scaling", kLlama3}}), frequencies({{"rope_scaling", inside}}));
}

TEST(ConfigSpellings, OnlyGlm4RotatesAShareOfTheHead) {
  EXPECT_EQ(frequencies({{"partial_rotary_factor", 0.5}}), frequencies(json::object()));
  EXPECT_THAT(parse({{"partial_rotary_factor", 0.5}}).remarks, ElementsAre(HasSubstr("without effect")));
  EXPECT_THAT(refusal({{"partial_rotary_factor", 0.5}, {"rope_scaling", kLinear}}),
              HasSubstr("do not go together"));
  EXPECT_EQ(frequencies(json::object(), "glm4").size(), 4u);
  EXPECT_EQ(frequencies({{"partial_rotary_factor", nullptr}}, "glm4").size(), 8u);
  EXPECT_EQ(frequencies({{"partial_rotary_factor", 0.25}}, "glm4").size(), 2u);
  for (const double share : {1e300, -1e300, 1.5, 0.0})
    EXPECT_THAT(refusal({{"partial_rotary_factor", share}}, "glm4"), HasSubstr("would be rotated")) << share;
  const json both = {{"partial_rotary_factor", 0.25}, {"rope_parameters", {{"partial_rotary_factor", 1.0}}}};
  EXPECT_EQ(frequencies(both, "glm4").size(), 8u);
  EXPECT_THAT(parse(both, "glm4").remarks, ElementsAre(HasSubstr("partial_rotary_factor")));
}

TEST(ConfigSpellings, NullIsRefusedWhereTransformersTakesNone) {
  for (const char* key : {"rms_norm_eps", "hidden_act", "max_position_embeddings", "tie_word_embeddings",
                          "attention_bias", "rope_theta"})
    EXPECT_THAT(refusal({{key, nullptr}}), HasSubstr(std::string("\"") + key + "\" is null")) << key;
  EXPECT_THAT(refusal({{"rope_scaling", {{"rope_type", nullptr}}}}), HasSubstr("rope type is null"));
  EXPECT_THAT(refusal({{"rope_parameters", json::array({1})}}), HasSubstr("not an object"));
  EXPECT_EQ(parse({{"head_dim", nullptr}, {"num_key_value_heads", nullptr}}).num_key_heads, 4);
  EXPECT_THAT(refusal({{"num_key_value_heads", nullptr}}, "glm4"), HasSubstr("num_key_value_heads"));
}

TEST(ConfigSpellings, DefaultsAreThoseOfTheClass) {
  EXPECT_TRUE(parse(json::object(), "glm4").attention_bias);
  EXPECT_FALSE(parse(json::object()).attention_bias);
  json silent = config_with(json::object(), "qwen2");
  silent.erase("max_position_embeddings");
  EXPECT_EQ(parse_model_config(silent, "config.json").max_positions, 32768);
}

TEST(ConfigSpellings, AWindowCountsWhereSomeLayerSlides) {
  EXPECT_NO_THROW(parse({{"use_sliding_window", true}, {"sliding_window", nullptr}}, "qwen2"));
  EXPECT_NO_THROW(
      parse({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 2}}, "qwen2"));
  EXPECT_THAT(
      refusal({{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}}, "qwen2"),
      HasSubstr("use_sliding_window"));
  EXPECT_THAT(refusal({{"layer_types", {"full_attention", "sliding_attention"}}}, "qwen2"),
              HasSubstr("layer_types"));
  EXPECT_THAT(refusal({{"layer_types", {"full_attention"}}}, "qwen2"), HasSubstr("names 1 layers"));
}

TEST(ConfigSpellings, TokenIdsPastTheVocabularyOrTheirRange) {
  EXPECT_THAT(parse({{"pad_token_id", 260}}).remarks, ElementsAre(HasSubstr("\"pad_token_id\" 260 is past")));
  EXPECT_THAT(parse({{"pad_token_id", 259}}).remarks, IsEmpty());
  EXPECT_THAT(refusal({{"eos_token_id", std::int64_t{1} << 32}}), HasSubstr("not a token id"));
}

// The names of the tensors that a model is made of, with these in its files.
std::vector<std::string> names_with(std::vector<std::string> present, bool tied) {
  ModelConfig config = parse({{"tie_word_embeddings", tied}, {"num_hidden_layers", 1}});
  choose_tensor_names(
      config, [&](const std::string& name) { return std::ranges::find(present, name) != present.end(); });
  const Model model = make_model(config);
  const auto all = model.parameters();
  return {all.front()->name(), all.at(1)->name(), all.back()->name()};
}

TEST(TensorNames, AreThoseOfTheFiles) {
  const std::string norm = "layers.0.input_layernorm.weight";
  EXPECT_THAT(names_with({"model." + norm}, false),
              ElementsAre("model.embed_tokens.weight", "model." + norm, "lm_head.weight"));
  EXPECT_THAT(names_with({norm}, false), ElementsAre("embed_tokens.weight", norm, "lm_head.weight"));
  EXPECT_THAT(names_with({"model.model." + norm}, false),
              ElementsAre("model.model.embed_tokens.weight", "model.model." + norm, "model.lm_head.weight"));
  EXPECT_THAT(names_with({"model." + norm, "lm_head.weight"}, true),
              ElementsAre("lm_head.weight", "model." + norm, "model.norm.weight"));
}

TEST(ConfigSpellings, WhatPythonTakesForNothingIsNoScaling) {
  const std::vector<float> plain = frequencies(json::object());
  for (const json& nothing : {json(false), json(0), json(""), json::array(), json::object(), json()}) {
    EXPECT_EQ(frequencies({{"rope_scaling", nothing}}), plain) << nothing;
    EXPECT_EQ(frequencies({{"rope_parameters", nothing}}), plain) << nothing;
  }
  EXPECT_THAT(refusal({{"rope_scaling", true}}), HasSubstr("\"rope_scaling\" is true, not an object"));
  EXPECT_THAT(refusal({{"rope_scaling", "linear"}}), HasSubstr("not an object"));
}

TEST(ConfigSpellings, ScalingThatDividesByNothingIsRefused) {
  const auto changed = [](json rope, const char* key) {
    rope[key] = 0;
    return refusal({{"rope_scaling", rope}});
  };
  json llama3 = kLlama3;
  llama3["original_max_position_embeddings"] = 32;
  const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  EXPECT_THAT(changed(kLinear, "factor"), HasSubstr("\"linear\" cannot be computed with \"factor\" 0"));
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"})
    EXPECT_THAT(changed(llama3, key),
                HasSubstr(fmt::format("\"llama3\" cannot be computed with \"{}\" 0", key)));
  for (const char* key : {"factor", "original_max_position_embeddings"})
    EXPECT_THAT(changed(yarn, key), HasSubstr(fmt::format("\"yarn\" cannot be computed with \"{}\" 0", key)));
}

}  // namespace
}  // namespace autoglm
