#include "trainer/data/tokenizer/named_tokens.h"

#include "tests/trainer/data/tokenizer/fixture.h"

namespace autoglm::tokenizer_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A vocabulary of "a", "b" and "</s>" (which no text is merged to), and one added token.
json small_tokenizer() {
  return {{"version", "1.0"},
          {"added_tokens", {added_token(3, "<one>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"</s>", 2}}},
            {"merges", json::array()},
            {"unk_token", nullptr}}}};
}

class NamedTokensTest : public ::testing::Test {
 protected:
  std::vector<std::int32_t> encode(const std::string& config, const std::string& text,
                                   const char* file = "tokenizer_config.json") const {
    folder_.write(small_tokenizer().dump());
    std::ofstream(folder_.path() / file) << config;
    return Tokenizer::load(folder_.path()).encode(text);
  }
  std::string problem(const std::string& config) const {
    try {
      encode(config, "a");
    } catch (const Error& error) {
      return fmt::format("{}: {}", static_cast<int>(error.code()), error.what());
    }
    return "nothing wrong";
  }

  Folder folder_;
};

TEST_F(NamedTokensTest, DeclaredTokensAreAdded) {
  const std::string declared =
      R"({"added_tokens_decoder": {"4": {"content": "<two>", "special": true, "lstrip": false}, "3": {"content": "<one>",
          "special": true}, "5": {"content": "<three>", "special": false, "normalized": false}}})";
  EXPECT_THAT(encode(declared, "a<two>b<one><three>"), ElementsAre(0, 4, 1, 3, 5));
}

TEST_F(NamedTokensTest, AddedTokensThatAreNoneAreRefused) {
  json file = small_tokenizer();
  file["added_tokens"] = {"<one>"};
  folder_.write(file.dump());
  std::ofstream(folder_.path() / "tokenizer_config.json")
      << R"({"added_tokens_decoder": {"3": {"content": "<one>", "lstrip": true}}})";
  try {
    Tokenizer::load(folder_.path());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_THAT(error.what(), HasSubstr("added_tokens"));
  }
}

TEST_F(NamedTokensTest, TokensOfOlderVersionsFileAreAdded) {
  const char* old = "added_tokens.json";
  EXPECT_THAT(encode(R"({"<two>": 4, "<one>": 3})", "a<two>b<one>", old), ElementsAre(0, 4, 1, 3));
  EXPECT_THAT(named_special_tokens(folder_.path()), ElementsAre("<one>", "<two>"));
  EXPECT_THROW(encode(R"({"<two>": "4"})", "a", old), Error);
  // What the newer file declares counts alone.
  std::ofstream(folder_.path() / old) << R"({"<two>": 4})";
  EXPECT_THAT(encode(R"({"added_tokens_decoder": {"4": {"content": "a<", "special": true}}})", "a<b"),
              ElementsAre(4, 1));
}

TEST_F(NamedTokensTest, TheDecodersFlagsCount) {
  const auto decoder = [](const std::string& flags) {
    return R"({"added_tokens_decoder": {"3": {"content": "<one>", "special": true)" + flags + "}}}";
  };
  EXPECT_THAT(encode(decoder(R"(, "lstrip": true, "rstrip": true)"), "a <one> b"), ElementsAre(0, 3, 1));
  EXPECT_THAT(encode(decoder(R"(, "single_word": true)"), "<one>"), ElementsAre(3));
  EXPECT_THAT(encode(decoder(""), "a<one>b"), ElementsAre(0, 3, 1));
}

TEST_F(NamedTokensTest, NamedTokensOfTheVocabularyAreFoundInTexts) {
  EXPECT_THAT(encode(R"({"eos_token": "</s>"})", "a</s>b"), ElementsAre(0, 2, 1));
  EXPECT_THAT(encode(R"({"pad_token": {"content": "</s>", "rstrip": true}})", "a</s> b"),
              ElementsAre(0, 2, 1));
  EXPECT_THAT(encode(R"({"additional_special_tokens": ["</s>", "<elsewhere>"]})", "a</s>b"),
              ElementsAre(0, 2, 1));
  EXPECT_THAT(encode(R"({"eos_token": "</s>"})", "</s>", "special_tokens_map.json"), ElementsAre(2));
}

TEST_F(NamedTokensTest, ATokenInAPlaceWhereItCannotBeIsRefusedByName) {
  EXPECT_THAT(
      problem(R"({"added_tokens_decoder": {"9": {"content": "<two>", "special": true}}})"),
      HasSubstr("\"added_tokens_decoder\" gives <two> the id 9, but tokenizer.json lacks the token and would "
                "give it 4; save"));
  EXPECT_EQ(problem(R"({"added_tokens_decoder": {"9": {"content": "<two>", "special": false}}})"),
            "nothing wrong");
  EXPECT_THAT(problem(R"({"added_tokens_decoder": {"x": {"content": "<two>"}}})"), HasSubstr("65: "));
  EXPECT_THAT(problem("{"), HasSubstr("tokenizer_config.json:1:2: is not valid JSON"));
}

TEST_F(NamedTokensTest, NamesOfSpecialTokens) {
  encode(
      R"({"eos_token": "</s>", "bos_token": null, "added_tokens_decoder": {"3": {"content": "<one>", "special": true},
             "1": {"content": "b", "special": false}}, "extra_special_tokens": {"image": "<img>"}})",
      "a");
  EXPECT_THAT(named_special_tokens(folder_.path()), ElementsAre("</s>", "<img>", "b", "<one>"));
}

}  // namespace
}  // namespace autoglm::tokenizer_test
