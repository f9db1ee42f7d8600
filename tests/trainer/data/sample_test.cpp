#include "trainer/data/sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/trainer/data/test_model.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;

constexpr std::int32_t kNo = kIgnoredLabel;

class SampleTokenizerTest : public ::testing::Test {
 protected:
  void use(const std::string& eos, const std::optional<std::string>& bos = std::nullopt) {
    write_byte_model(folder_, all_special_tokens(), eos, bos);
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
  }

  Sample tokenize(const Conversation& conversation, const std::string& name,
                  LossOn loss_on = LossOn::assistant, EndOfTurn end_of_turn = EndOfTurn::user) const {
    const ChatTemplate chat_template = ChatTemplate::select(name, folder_.path(), *tokenizer_, end_of_turn);
    return SampleTokenizer(*tokenizer_, chat_template, loss_on).tokenize(conversation);
  }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
};

const Conversation kChat{
    Conversation::Form::chat,
    {{Role::user, "U"}, {Role::assistant, "A"}, {Role::user, "V"}, {Role::assistant, "B"}}};
constexpr std::int32_t kEnd = 256, kMask = 259, kSop = 260, kUser = 262, kAssistant = 263, kBos = 265,
                       kEos = 266;

TEST_F(SampleTokenizerTest, Glm4TokenByToken) {
  use("<|endoftext|>");
  const Sample sample = tokenize(kChat, "glm4");
  EXPECT_THAT(sample.ids, ElementsAre(kMask, kSop, kUser, '\n', 'U', kAssistant, '\n', 'A', kUser, '\n', 'V',
                                      kAssistant, '\n', 'B', kUser));
  EXPECT_THAT(sample.labels,
              ElementsAre(kNo, kNo, kNo, kNo, kNo, kNo, '\n', 'A', kUser, kNo, kNo, kNo, '\n', 'B', kUser));
  EXPECT_EQ(count_supervised(sample.labels), 6U);
}

TEST_F(SampleTokenizerTest, Glm4EndingWithEos) {
  use("<|endoftext|>");
  const Sample sample = tokenize(kChat, "glm4", LossOn::assistant, EndOfTurn::eos);
  EXPECT_THAT(sample.ids, ElementsAre(kMask, kSop, kUser, '\n', 'U', kAssistant, '\n', 'A', kUser, '\n', 'V',
                                      kAssistant, '\n', 'B', kEnd));
  EXPECT_THAT(sample.labels,
              ElementsAre(kNo, kNo, kNo, kNo, kNo, kNo, '\n', 'A', kEnd, kNo, kNo, kNo, '\n', 'B', kEnd));
}

TEST_F(SampleTokenizerTest, LossOnAll) {
  use("<|endoftext|>");
  const Sample sample = tokenize(kChat, "glm4", LossOn::all);
  EXPECT_EQ(sample.labels, sample.ids);
}

TEST_F(SampleTokenizerTest, RunningTextIsFramed) {
  use("</s>", "<s>");
  const Conversation text{Conversation::Form::text, {{Role::assistant, "ab"}}};
  const Sample framed = tokenize(text, "auto");
  EXPECT_THAT(framed.ids, ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_EQ(framed.labels, framed.ids);
  EXPECT_EQ(count_supervised(framed.labels), 3U);

  const Conversation completion{Conversation::Form::completion, {{Role::user, "a"}, {Role::assistant, "b"}}};
  const Sample answer = tokenize(completion, "plain");
  EXPECT_THAT(answer.ids, ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_THAT(answer.labels, ElementsAre(kNo, kNo, 'b', kEos));
  const Sample all = tokenize(completion, "plain", LossOn::all);
  EXPECT_EQ(all.labels, all.ids);
}

TEST_F(SampleTokenizerTest, AnEndTokenThatIsNotFoundIsRefused) {
  use("</s>", "<s>");
  folder_.write(
      "tokenizer_config.json",
      R"({"eos_token": "</s>", "added_tokens_decoder": {"266": {"content": "</s>", "special": true, "single_word": true}}})");
  tokenizer_.emplace(Tokenizer::load(folder_.path()));
  const auto text = [](const std::string& content) {
    return Conversation{Conversation::Form::text, {{Role::assistant, content}}};
  };
  EXPECT_THAT(tokenize(text("a."), "plain").ids, ElementsAre(kBos, 'a', '.', kEos));
  try {
    tokenize(text("a"), "plain");
    FAIL();
  } catch (const SampleError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("the end token </s> behind it is not found"));
  }
}

TEST_F(SampleTokenizerTest, ABosBehindWhiteSpaceIsTheTextsOwn) {
  use("</s>", "<s>");
  const auto ids = [&](const std::string& text) {
    return tokenize({Conversation::Form::text, {{Role::assistant, text}}}, "auto").ids;
  };
  EXPECT_THAT(ids("\n <s>a</s>\n"), ElementsAre('\n', ' ', kBos, 'a', kEos, '\n'));
  EXPECT_THAT(ids("\n a"), ElementsAre(kBos, '\n', ' ', 'a', kEos));
  EXPECT_THAT(ids(" \n"), ElementsAre(kBos, ' ', '\n', kEos));
}

TEST_F(SampleTokenizerTest, TextWithoutSpecialTokens) {
  write_byte_model(folder_, {});
  tokenizer_.emplace(Tokenizer::load(folder_.path()));
  EXPECT_THAT(tokenize({Conversation::Form::text, {{Role::assistant, "ab"}}}, "auto").ids,
              ElementsAre('a', 'b'));
}

TEST_F(SampleTokenizerTest, RenderedTextKeepsOneBosAndOneEnd) {
  use("</s>", "<s>");
  const auto text_ids = [&](const std::string& text) {
    return tokenize({Conversation::Form::text, {{Role::assistant, text}}}, "auto").ids;
  };
  EXPECT_THAT(text_ids("<s>ab</s>"), ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_THAT(text_ids("<s>ab"), ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_THAT(text_ids("ab</s>"), ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_THAT(text_ids("ab</s>\n"), ElementsAre(kBos, 'a', 'b', kEos, '\n'));
  constexpr std::int32_t kImEnd = 258;
  EXPECT_THAT(text_ids("ab<|im_end|>\n"), ElementsAre(kBos, 'a', 'b', kImEnd, '\n'));
  EXPECT_THAT(text_ids("a</s>b"), ElementsAre(kBos, 'a', kEos, 'b', kEos));
  const auto joined = [&](const std::string& prompt, const std::string& completion) {
    return tokenize({Conversation::Form::completion, {{Role::user, prompt}, {Role::assistant, completion}}},
                    "plain");
  };
  const Sample framed = joined("<s>a", "b</s>");
  EXPECT_THAT(framed.ids, ElementsAre(kBos, 'a', 'b', kEos));
  EXPECT_THAT(framed.labels, ElementsAre(kNo, kNo, 'b', kEos));
  EXPECT_EQ(joined("a", "b").ids, framed.ids);
}

TEST_F(SampleTokenizerTest, NamedTokensThatTheTokenizerLacksAreNotSpelled) {
  use("</s>");
  folder_.write("tokenizer_config.json",
                R"({"eos_token": "</s>", "additional_special_tokens": ["<|tool|>"]})");
  const auto tokenize_text = [&](const std::string& text) {
    return tokenize({Conversation::Form::text, {{Role::assistant, text}}}, "auto");
  };
  EXPECT_THAT(tokenize_text("tool").ids, ElementsAre('t', 'o', 'o', 'l', kEos));
  try {
    tokenize_text("a <|tool|> b");
    FAIL();
  } catch (const SampleError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(
                                  "it holds <|tool|>, which files beside the model's tokenizer.json name"));
  }
}

TEST(CountSupervisedTest, TheFirstTokenBringsNoLoss) {
  EXPECT_EQ(count_supervised(std::vector<std::int32_t>{}), 0U);
  EXPECT_EQ(count_supervised(std::vector<std::int32_t>{5}), 0U);
  EXPECT_EQ(count_supervised(std::vector<std::int32_t>{5, kNo, 5}), 1U);
}

TEST(SampleSetTest, KeepsIdsAndLabels) {
  SampleSet set(9);
  set.append({{1, 2, 3}, {kNo, 2, 9}}, 3);
  set.append({{4, 5, 6}, {4, 5, kNo}}, 2);
  ASSERT_EQ(set.size(), 2U);
  EXPECT_EQ(set.num_tokens(), 5U);
  EXPECT_EQ(set.length(1), 2U);
  EXPECT_THAT(set.ids(0), ElementsAre(1, 2, 3));
  EXPECT_THAT(set.labels(0), ElementsAre(kNo, 2, 9));
  EXPECT_THAT(set.labels(1), ElementsAre(4, 5));
  EXPECT_EQ(set.supervised(0), 2U);
  EXPECT_EQ(set.supervised(1), 1U);
  EXPECT_THROW(set.append({{1}, {2}}, 1), Error);
}

TEST(SampleSetTest, KnowsPieces) {
  SampleSet set(9);
  set.append({{1, 2}, {1, 2}}, 2);
  const Sample text{{1, 2, 3, 4, 5}, {1, 2, 3, 4, 5}};
  for (const std::size_t begin : {0U, 2U}) set.append(text, 2, begin);
  SampleSet other(9);
  other.append(text, 4, 0);
  other.append(text, 1, 4);
  std::vector<std::byte> bytes;
  other.to_bytes(bytes);
  std::span<const std::byte> rest(bytes);
  set.append(SampleSet::from_bytes(rest));
  std::vector<bool> continues;
  for (std::size_t i = 0; i < set.size(); ++i) continues.push_back(set.continues(i));
  EXPECT_THAT(continues, ElementsAre(false, false, true, false, true));
  EXPECT_EQ(set.num_whole(3), 2U);
  EXPECT_EQ(set.num_whole(5), 3U);
}

TEST(SampleSetTest, TravelsAsBytes) {
  SampleSet first(9);
  first.append({{1, 2}, {kNo, 9}}, 2);
  SampleSet second(9);
  second.append({{3}, {3}}, 1);
  std::vector<std::byte> bytes;
  first.to_bytes(bytes);
  second.to_bytes(bytes);
  SampleSet(9).to_bytes(bytes);
  std::span<const std::byte> rest(bytes);
  SampleSet merged(9);
  for (int i = 0; i < 3; ++i) merged.append(SampleSet::from_bytes(rest));
  EXPECT_TRUE(rest.empty());
  ASSERT_EQ(merged.size(), 2U);
  EXPECT_THAT(merged.labels(0), ElementsAre(kNo, 9));
  EXPECT_THAT(merged.ids(1), ElementsAre(3));
  std::span<const std::byte> cut(bytes.data(), 20);
  EXPECT_THROW(SampleSet::from_bytes(cut), Error);
}

}  // namespace
}  // namespace autoglm
