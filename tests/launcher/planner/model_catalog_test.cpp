#include "launcher/planner/model_catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "launcher/planner/configs_folder.h"
#include "tests/launcher/expect_error.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ModelCatalog catalog() {
  return ModelCatalog(configs_folder() / "models");
}

// Of the published weights.
const std::map<std::string, std::int64_t> kNumParameters = {
    {"AutoGLM-Phone-9B", 9'400'279'040},  // without the vision part's 892,498,432
    {"GLM-4-32B-0414", 32'566'081'536},  {"GLM-4-9B-0414", 9'400'279'040},  {"LLaMA-13B", 13'015'864'320},
    {"LLaMA-7B", 6'738'415'616},         {"Llama-2-13B", 13'015'864'320},   {"Llama-2-70B", 68'976'648'192},
    {"Llama-2-7B", 6'738'415'616},       {"Llama-3-70B", 70'553'706'496},   {"Llama-3-8B", 8'030'261'248},
    {"OPT-1.3B", 1'315'758'080},         {"OPT-125M", 125'239'296},         {"OPT-13B", 12'853'473'280},
    {"OPT-2.7B", 2'651'596'800},         {"OPT-30B", 29'974'540'288},       {"OPT-350M", 331'196'416},
    {"OPT-6.7B", 6'658'473'984},         {"OPT-66B", 65'719'701'504},       {"SmolLM2-1.7B", 1'711'376'384},
    {"SmolLM2-135M", 134'515'008},       {"TinyLlama-1.1B", 1'100'048'384}, {"Qwen2.5-7B", 7'615'616'512},
};

TEST(ModelCatalog, EveryModelHasThePublishedNumberOfParameters) {
  const ModelCatalog models = catalog();
  for (const std::string& name : models.names()) {
    ASSERT_TRUE(kNumParameters.count(name)) << name;
    EXPECT_EQ(make_model(models.find(name)).num_parameters(), kNumParameters.at(name)) << name;
  }
  EXPECT_EQ(models.names().size(), kNumParameters.size());
}

TEST(ModelCatalog, FindsNamesAsPeopleWriteThem) {
  const ModelCatalog models = catalog();
  EXPECT_EQ(models.resolve("glm-4-9b-0414"), "GLM-4-9B-0414");
  EXPECT_EQ(models.resolve("GLM-4-9B"), "GLM-4-9B-0414");
  EXPECT_EQ(models.resolve("zai-org/AutoGLM-Phone-9B"), "AutoGLM-Phone-9B");
  EXPECT_EQ(models.resolve("HuggingFaceTB/SmolLM2-135M"), "SmolLM2-135M");
  EXPECT_EQ(models.resolve("llama_7b"), "LLaMA-7B");
  EXPECT_EQ(models.resolve("facebook/opt-13b"), "OPT-13B");
  EXPECT_EQ(models.find("llama-3-8b").num_key_heads, 8);
}

TEST(ModelCatalog, UnknownAndAmbiguousNamesAreUsageErrors) {
  const ModelCatalog models = catalog();
  EXPECT_THAT(
      error_of(ExitCode::usage, [&] { models.find("llama-8b"); }),
      AllOf(HasSubstr("\"llama-8b\""), HasSubstr("did you mean LLaMA-7B?"), HasSubstr("GLM-4-9B-0414")));
  error_of(ExitCode::usage, [&] { models.find("glm-4"); });
  error_of(ExitCode::usage, [&] { models.find("llama-2-7"); });
  error_of(ExitCode::usage, [&] { models.find(""); });
  error_of(ExitCode::usage, [&] { models.find("../hardware/a100-40gb"); });
}

}  // namespace
}  // namespace autoglm
