#include "launcher/report/data_report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/data/test_model.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class DataReportTest : public ::testing::Test {
 protected:
  void load(const std::string& lines, EndOfTurn end_of_turn = EndOfTurn::user) {
    write_byte_model(folder_, all_special_tokens(), "<|endoftext|>");
    tokenizer_.emplace(Tokenizer::load(folder_.path()));
    options_.files = {folder_.write("a.jsonl", lines)};
    dataset_.emplace(load_dataset(options_, *tokenizer_,
                                  ChatTemplate::select("glm4", folder_.path(), *tokenizer_, end_of_turn)));
  }

  std::string show(bool color) const { return format_sample(*dataset_, 0, *tokenizer_, color); }

  TemporaryFolder folder_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<Dataset> dataset_;
  DataOptions options_;
};

const std::string kChat =
    R"({"messages": [{"role": "user", "content": "Hi\u001b[0m"}, {"role": "assistant", "content": "Grüße"}]})";

TEST_F(DataReportTest, ShowsWhatIsTrained) {
  load(kChat);
  EXPECT_EQ(
      show(false),
      "Sample 1: 20 tokens, 9 supervised\n[gMASK]<sop><|user|>\nHi\\x1b[0m<|assistant|>⟦\nGrüße<|user|>⟧\n");
  EXPECT_THAT(show(true), HasSubstr("\x1b[32m↵\nGrüße<|user|>\x1b[0m"));
}

TEST_F(DataReportTest, ShowsLabelsThatDifferFromTheirToken) {
  const std::string answered =
      R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"},
                       {"role": "user", "content": "v"}]})";
  std::string line = answered;
  std::erase(line, '\n');
  load(line, EndOfTurn::eos);
  EXPECT_THAT(show(false), HasSubstr("⟦\na⟧<|user|>⟦→<|endoftext|>⟧\nv"));
}

TEST_F(DataReportTest, Json) {
  load(kChat);
  EXPECT_EQ(format_sample_json(*dataset_, 0),
            "{\"ids\": [259,260,262,10,72,105,27,91,48,109,263,10,71,114,195,188,195,159,101,262], "
            "\"labels\": "
            "[-100,-100,-100,-100,-100,-100,-100,-100,-100,-100,-100,10,71,114,195,188,195,159,101,262]}\n");
}

TEST_F(DataReportTest, Summary) {
  options_.sequence_length = 24;
  const std::string unanswered = R"({"messages": [{"role": "user", "content": "Hi"}]})";
  const std::string cut = R"({"prompt": "p", "completion": "123456789012345678901234567890"})";
  const std::string cut_off = R"({"prompt": "123456789012345678901234567890", "completion": "c"})";
  load(kChat + "\n" + unanswered + "\n" + cut + "\n" + cut_off + "\n");
  const std::string summary = format_data_summary(*dataset_);
  EXPECT_THAT(summary, HasSubstr("template glm4, loss on assistant turns"));
  EXPECT_THAT(summary, HasSubstr("a.jsonl: 4 samples"));
  EXPECT_THAT(summary, HasSubstr("4 read, 2 kept"));
  EXPECT_THAT(summary, HasSubstr("1 dropped: they hold nothing to supervise; the first is "));
  EXPECT_THAT(summary, HasSubstr("a.jsonl:2\n"));
  EXPECT_THAT(summary, HasSubstr("1 dropped: nothing to supervise is left after truncation"));
  EXPECT_THAT(summary, HasSubstr("1 cut to 24 tokens (--overlong truncate); the first is "));
  EXPECT_THAT(summary, HasSubstr("2 samples in 2 rows of 24 tokens, "));
  EXPECT_THAT(summary, Not(HasSubstr("validation")));
}

TEST_F(DataReportTest, SummaryOfRunningTextAndOfWhatNobodyReads) {
  options_.sequence_length = 8;
  load(R"({"text": "0123456789abcdefghij", "mood": "good", "a\u001b": 1})"
       "\n"
       R"({"messages": [{"role": "assistant", "content": "x", "speaker": "Ann"}], "mood": 3})"
       "\n");
  const std::string file = options_.files[0].string();
  const std::string summary = format_data_summary(*dataset_);
  EXPECT_THAT(summary, HasSubstr("2 read, 2 kept"));
  EXPECT_THAT(summary, HasSubstr("1 cut into 3 pieces of up to 8 tokens (--overlong split); the first is "));
  EXPECT_THAT(summary,
              HasSubstr("2 with a field \"mood\" that nothing reads; the first is " + file + ":1\n"));
  EXPECT_THAT(summary, HasSubstr("1 with a field \"a\\x1b\" that nothing reads"));
  EXPECT_THAT(summary, HasSubstr("1 with a field \"speaker\" in a turn that nothing reads; the first is " +
                                 file + ":2\n"));
  options_.sequence_length = 64;
  load(kChat);
  EXPECT_THAT(format_data_summary(*dataset_), Not(HasSubstr("nothing reads")));
}

TEST_F(DataReportTest, TwelveFieldsAreAllNamed) {
  std::string line = kChat.substr(0, kChat.size() - 1);
  for (int i = 0; i < 12; ++i) line += fmt::format(", \"field{}\": {}", i, i);
  load(line + "}");
  for (int i = 0; i < 12; ++i)
    EXPECT_THAT(format_data_summary(*dataset_), HasSubstr(fmt::format("1 with a field \"field{}\" that", i)));
}

TEST_F(DataReportTest, PiecesAreCountedAsWhatTheyAre) {
  options_.sequence_length = 8;
  options_.validation.fraction = 0.5;
  load(R"({"text": "0123456789abcdefghij"})"
       "\n"
       R"({"text": "0123456789abcdefghij"})"
       "\n");
  std::string summary = format_data_summary(*dataset_);
  EXPECT_THAT(summary, HasSubstr("training   3 pieces of 1 samples in "));
  EXPECT_THAT(summary, HasSubstr("validation 3 pieces of 1 samples in "));
  load(R"({"text": "0123456789abcdefghij"})");
  summary = format_data_summary(*dataset_);
  EXPECT_THAT(summary, HasSubstr("training   1 pieces of 1 samples in "));
  EXPECT_THAT(summary, HasSubstr("validation 2 pieces of 1 samples in "));
}

TEST_F(DataReportTest, SummaryOfValidation) {
  options_.validation.file = folder_.write("v.jsonl", kChat + "\n" + kChat + "\n");
  load(kChat);
  const std::string summary = format_data_summary(*dataset_);
  EXPECT_THAT(summary, HasSubstr("v.jsonl: 2 samples"));
  EXPECT_THAT(summary, HasSubstr("validation 2 samples in 1 rows"));
}

TEST(LengthHistogramTest, DrawsLengths) {
  const std::vector<std::uint32_t> lengths{1, 2, 3, 25, 26, 150};
  const std::string drawn = format_length_histogram(lengths, 100, 80);
  EXPECT_THAT(drawn, HasSubstr("0-9         3 ████"));
  EXPECT_THAT(drawn, HasSubstr("20-29         2 ███"));
  EXPECT_THAT(drawn, HasSubstr("150-159         1 ░"));
  EXPECT_THAT(drawn, HasSubstr("the longest has 150; ░ is longer than a row"));
  EXPECT_EQ(format_length_histogram({}, 100, 80), "");
  for (const std::uint32_t one : {0U, 1U, 7U, 1000000U, 4000000000U}) {
    EXPECT_THAT(format_length_histogram(std::vector<std::uint32_t>{one}, 100, 0),
                ::testing::AnyOf(HasSubstr("         1 █"), HasSubstr("         1 ░")))
        << one;
  }
}

}  // namespace
}  // namespace autoglm
