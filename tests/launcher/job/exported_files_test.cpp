#include "launcher/job/exported_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "checkpoint/safetensors_header.h"
#include "tests/trainer/data/test_model.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

// A model of one tensor whose files of settings say what a test writes into them.
class ExportedFilesTest : public ::testing::Test {
 protected:
  ExportedFilesTest() {
    write_byte_model(folder_, {"<|im_start|>", "<|im_end|>", "</s>"}, "</s>");
    const std::string header = make_safetensors_header({{"a", safetensors_dtype(DType::float32), {1}}}).text;
    std::string file(8, '\0');
    file[0] = static_cast<char>(header.size());
    folder_.write("model.safetensors", file + header + std::string(4, '\0'));
    folder_.write("config.json", R"({"hidden_size": 4})");
  }

  // The files of a training with chatml, of which each that is JSON must be readable.
  SideFiles export_chatml() const {
    const Tokenizer tokenizer = Tokenizer::load(folder_.path());
    SideFiles files = SideFiles::keep(ModelDirectory::open(folder_.path()));
    export_template(files, ChatTemplate::select("chatml", folder_.path(), tokenizer), tokenizer);
    for (const std::string& name : files.names())
      if (name.ends_with(".json")) parse_json(*files.text(name), name);
    return files;
  }

  TemporaryFolder folder_;
};

TEST_F(ExportedFilesTest, IdsThatAreNoneAreReplaced) {
  for (const char* const ids : {"\"x\"", "{}", "[\"a\", null]", "1.5", "[]", "null", "[258, \"a\"]"}) {
    folder_.write("generation_config.json", fmt::format(R"({{"eos_token_id": {}}})", ids));
    const SideFiles files = export_chatml();
    const nlohmann::json written = parse_json(*files.text("generation_config.json"));
    EXPECT_EQ(written["eos_token_id"], (nlohmann::json{257, 258})) << ids;
  }
}

TEST_F(ExportedFilesTest, KeysWithEscapesAreFound) {
  folder_.write("generation_config.json", R"({"eos_\u0074oken_id": 5, "x": 1})");
  EXPECT_EQ(*export_chatml().text("generation_config.json"), R"({"eos_\u0074oken_id": [257, 258, 5], "x": 1})");
}

TEST_F(ExportedFilesTest, TokensThatAreNoneAreReplaced) {
  for (const char* const token : {"5", "{\"content\": 5}", "{}", "[]", "\"</s>\""}) {
    folder_.write("special_tokens_map.json", fmt::format(R"({{"eos_token": {}}})", token));
    const SideFiles files = export_chatml();
    EXPECT_EQ(parse_json(*files.text("special_tokens_map.json"))["eos_token"], "<|im_end|>") << token;
  }
}

TEST_F(ExportedFilesTest, TemplatesWithoutTextAreNone) {
  folder_.write(
      "tokenizer_config.json",
      R"({"eos_token": "</s>", "chat_template": [{"name": 5, "template": "x"}, {"name": "default"}]})");
  EXPECT_THAT(*export_chatml().text("chat_template.jinja"), HasSubstr("<|im_start|>"));
}

}  // namespace
}  // namespace autoglm
