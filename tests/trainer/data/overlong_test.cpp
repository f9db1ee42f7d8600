#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/data/dataset_fixture.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using OverlongTest = DatasetTest;

TEST_F(OverlongTest, Truncates) {
  const std::string answer(40, 'x');
  options_.files = {folder_.write("a.jsonl", chat("a", "b") + chat("a", answer) + chat(answer, "b"))};
  const Dataset dataset = load();
  ASSERT_EQ(dataset.samples().size(), 2U);
  EXPECT_EQ(dataset.samples().length(1), 32U);
  EXPECT_THAT(dataset.summary().lengths, ElementsAre(9, 48, 48));
  EXPECT_EQ(dataset.summary().truncated.count, 1U);
  EXPECT_EQ(dataset.summary().cut_tokens, 16U);
  EXPECT_EQ(dataset.summary().dropped_cut.count, 1U);
  EXPECT_THAT(describe(options_.files, *dataset.summary().dropped_cut.first), HasSubstr("a.jsonl:3"));
}

TEST_F(OverlongTest, CutsRunningTextIntoRows) {
  options_.sequence_length = 8;
  for (const std::size_t size : {5U, 7U, 8U, 14U, 15U, 16U, 17U, 100U}) {
    std::string text;
    for (std::size_t i = 0; i < size; ++i) text += static_cast<char>('a' + i % 26);
    options_.files = {folder_.write("a.jsonl", "{\"text\": \"" + text + "\"}\n")};
    const Dataset dataset = load();
    std::string together;
    for (std::size_t i = 0; i < dataset.samples().size(); ++i) {
      EXPECT_LE(dataset.samples().length(i), 8U);
      EXPECT_GE(dataset.samples().length(i), 2U);
      for (const std::int32_t id : dataset.samples().ids(i))
        together += id == 256 ? '$' : static_cast<char>(id);
      EXPECT_THAT(dataset.samples().labels(i), ::testing::ElementsAreArray(dataset.samples().ids(i)));
    }
    EXPECT_EQ(together, text + "$");
    const DataSummary& summary = dataset.summary();
    EXPECT_EQ(summary.num_kept, 1U);
    EXPECT_EQ(summary.num_pieces, (size + 1 + 7) / 8);
    EXPECT_EQ(summary.split.count, size + 1 > 8 ? 1U : 0U);
    EXPECT_EQ(summary.tokens, size + 1);
    EXPECT_EQ(summary.cut_tokens + summary.truncated.count, 0U);
    EXPECT_TRUE(summary.is_wholly_trained());
  }
}

TEST_F(OverlongTest, CutsRunningTextOnlyWhereAsked) {
  options_.sequence_length = 8;
  options_.files = {folder_.write("a.jsonl", "{\"text\": \"0123456789abcdefghij\"}\n")};
  options_.overlong = Overlong::truncate;
  EXPECT_EQ(load().summary().cut_tokens, 13U);
  options_.overlong = Overlong::drop;
  EXPECT_THAT(problem(), HasSubstr("1 are longer than that"));
  options_.overlong = Overlong::error;
  EXPECT_THAT(problem(), HasSubstr("--overlong split, truncate or drop would go on"));
}

TEST_F(OverlongTest, DropsOverlongSamples) {
  options_.overlong = Overlong::drop;
  options_.files = {folder_.write("a.jsonl", chat("a", "b") + chat("a", std::string(40, 'x')))};
  const Dataset dataset = load();
  EXPECT_EQ(dataset.samples().size(), 1U);
  EXPECT_EQ(dataset.summary().dropped_overlong.count, 1U);
}

TEST_F(OverlongTest, RefusesOverlongSamples) {
  options_.overlong = Overlong::error;
  options_.files = {folder_.write("a.jsonl", chat("a", "b") + "\n" + chat("a", std::string(40, 'x')))};
  EXPECT_THAT(problem(), HasSubstr("65: "));
  EXPECT_THAT(problem(),
              HasSubstr("a.jsonl:3: the sample has 48 tokens, and a row has 32 (--sequence-length)"));
}

}  // namespace
}  // namespace autoglm
