#include "trainer/data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "trainer/data/sample_order.h"

namespace autoglm {
namespace {

using ::testing::ElementsAre;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // seen: 12 s on a busy core
#else
constexpr bool kSanitized = false;
#endif

SampleSet make_samples(const std::vector<std::size_t>& lengths) {
  SampleSet set;
  std::int32_t next = 1;
  for (const std::size_t length : lengths) {
    Sample sample;
    for (std::size_t i = 0; i < length; ++i) sample.ids.push_back(next++);
    sample.labels = sample.ids;
    sample.labels[0] = kIgnoredLabel;
    set.append(sample, length);
  }
  return set;
}

std::vector<std::uint32_t> all_of(const SampleSet& set) {
  std::vector<std::uint32_t> order(set.size());
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

std::vector<std::vector<std::uint32_t>> rows_of(const RowPlan& plan) {
  std::vector<std::vector<std::uint32_t>> rows;
  for (std::size_t i = 0; i < plan.num_rows(); ++i) rows.emplace_back(plan.row(i).begin(), plan.row(i).end());
  return rows;
}

// Lengths as instruction data has them: many short, a long tail.
std::vector<std::size_t> instruction_lengths(std::size_t count, std::size_t longest) {
  std::vector<std::size_t> lengths;
  for (std::size_t i = 0; i < count; ++i) {
    const double u =
        static_cast<double>(random_number(1, RandomPurpose::sample_order, 0, i) >> 11) / 9007199254740992.0;
    lengths.push_back(std::min<std::size_t>(longest, static_cast<std::size_t>(40 - 110 * std::log(1 - u))));
  }
  return lengths;
}

double fill_rate(const SampleSet& set, const RowPlan& plan, std::int64_t row_length) {
  return static_cast<double>(set.num_tokens()) /
         (static_cast<double>(plan.num_rows()) * static_cast<double>(row_length));
}

TEST(PackingTest, BestFit) {
  const SampleSet set = make_samples({3, 6, 4, 5, 10, 2});
  // Longest first: 10 fills a row; 6 and 5 open rows; 4 fills the first of these exactly; 3 and 2 the second.
  EXPECT_THAT(rows_of(pack_rows(set, all_of(set), 10, true)),
              ElementsAre(ElementsAre(4), ElementsAre(1, 2), ElementsAre(0, 3, 5)));
  EXPECT_THAT(rows_of(pack_rows(set, std::vector<std::uint32_t>{5, 0}, 10, true)),
              ElementsAre(ElementsAre(5, 0)));
}

TEST(PackingTest, OffGivesEverySampleARow) {
  const SampleSet set = make_samples({1, 2, 3});
  EXPECT_THAT(rows_of(pack_rows(set, std::vector<std::uint32_t>{2, 0, 1}, 10, false)),
              ElementsAre(ElementsAre(2), ElementsAre(0), ElementsAre(1)));
}

TEST(PackingTest, HoldsEverySampleOnceAndNeverSplits) {
  const SampleSet set = make_samples(instruction_lengths(5000, 256));
  const std::vector<std::uint32_t> order = shuffle(all_of(set), 42, 0);
  const RowPlan plan = pack_rows(set, order, 256, true);
  std::multiset<std::uint32_t> seen;
  for (std::size_t i = 0; i < plan.num_rows(); ++i) {
    std::size_t tokens = 0;
    for (const std::uint32_t sample : plan.row(i)) tokens += set.length(sample);
    ASSERT_LE(tokens, 256U);
    ASSERT_GE(tokens, 1U);
    seen.insert(plan.row(i).begin(), plan.row(i).end());
  }
  EXPECT_EQ(std::vector<std::uint32_t>(seen.begin(), seen.end()), all_of(set));
  EXPECT_EQ(rows_of(plan), rows_of(pack_rows(set, order, 256, true)));
}

TEST(PackingTest, FillsRows) {
  const SampleSet set = make_samples(instruction_lengths(50000, 512));
  const RowPlan plan = pack_rows(set, shuffle(all_of(set), 42, 0), 512, true);
  EXPECT_GT(fill_rate(set, plan, 512), 0.985);
}

TEST(PackingTest, OneSampleAndNone) {
  const SampleSet set = make_samples({10});
  EXPECT_EQ(pack_rows(set, all_of(set), 10, true).num_rows(), 1U);
  EXPECT_EQ(pack_rows(set, {}, 10, true).num_rows(), 0U);
}

TEST(PackingTest, PacksAMillionSamplesInAboutASecond) {
  SampleSet set;
  for (const std::size_t length : instruction_lengths(1000000, 64)) {
    set.append({std::vector<std::int32_t>(length, 1), std::vector<std::int32_t>(length, 1)}, length);
  }
  const std::vector<std::uint32_t> samples = all_of(set);
  const auto begin = std::chrono::steady_clock::now();
  const RowPlan plan = pack_rows(set, shuffle(samples, 1, 0), 2048, true);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  RecordProperty("seconds", std::to_string(seconds.count()));
  EXPECT_LT(seconds.count(), kSanitized ? 60 : 10)
      << "about 0.5 on an idle core; slower means more than a few steps per sample";
  EXPECT_GT(fill_rate(set, plan, 2048), 0.99);
}

TEST(WriteRowTest, DocumentsPaddingAndTargets) {
  const SampleSet set = make_samples({3, 2});  // ids 1 2 3 and 4 5
  std::vector<std::int32_t> ids(8), targets(8), positions(8);
  const std::vector<std::uint32_t> row{1, 0};
  EXPECT_THAT(write_row(set, row, 77, {ids, targets, positions}), ElementsAre(0, 2, 5, 8));
  EXPECT_THAT(ids, ElementsAre(4, 5, 1, 2, 3, 77, 77, 77));
  const std::int32_t no = kIgnoredLabel;
  EXPECT_THAT(targets, ElementsAre(5, no, 2, 3, no, no, no, no));
  EXPECT_THAT(positions, ElementsAre(0, 1, 0, 1, 2, 0, 1, 2));
}

TEST(WriteRowTest, FullAndEmptyRows) {
  const SampleSet set = make_samples({4});
  std::vector<std::int32_t> ids(4), targets(4), positions(4);
  EXPECT_THAT(write_row(set, std::vector<std::uint32_t>{0}, 0, {ids, targets, positions}), ElementsAre(0, 4));
  EXPECT_THAT(ids, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(write_row(set, {}, 7, {ids, targets, positions}), ElementsAre(0, 4));
  EXPECT_THAT(ids, ElementsAre(7, 7, 7, 7));
  EXPECT_THAT(targets, ::testing::Each(kIgnoredLabel));
}

TEST(SampleOrderTest, DependsOnSeedEpochAndSampleAlone) {
  const std::vector<std::uint32_t> samples{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<std::uint32_t> order = shuffle(samples, 42, 0);
  EXPECT_EQ(order, shuffle(samples, 42, 0));
  EXPECT_NE(order, shuffle(samples, 42, 1));
  EXPECT_NE(order, shuffle(samples, 43, 0));
  EXPECT_TRUE(std::is_permutation(order.begin(), order.end(), samples.begin()));
  // The others keep their order when some are left out.
  std::vector<std::uint32_t> some = order;
  std::erase_if(some, [](std::uint32_t sample) { return sample % 3 == 0; });
  EXPECT_EQ(shuffle(std::vector<std::uint32_t>{8, 7, 5, 4, 2, 1}, 42, 0), some);
}

// The order is a promise across versions: a resumed run must see the same one.
TEST(SampleOrderTest, IsPinned) {
  EXPECT_THAT(shuffle(std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}, 42, 0),
              ElementsAre(0, 4, 1, 6, 5, 7, 3, 2));
  EXPECT_THAT(shuffle(std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7}, 42, 1),
              ElementsAre(4, 5, 2, 6, 1, 0, 3, 7));
}

TEST(SampleOrderTest, SpreadsEvenly) {
  std::vector<std::uint32_t> samples(1000);
  std::iota(samples.begin(), samples.end(), 0U);
  // How often each sample lands in the first half, over many epochs: 200 +- 5 standard deviations.
  std::vector<int> first_half(samples.size());
  for (std::uint64_t epoch = 0; epoch < 400; ++epoch) {
    const std::vector<std::uint32_t> order = shuffle(samples, 7, epoch);
    for (std::size_t i = 0; i < order.size() / 2; ++i) ++first_half[order[i]];
  }
  EXPECT_GT(*std::min_element(first_half.begin(), first_half.end()), 150);
  EXPECT_LT(*std::max_element(first_half.begin(), first_half.end()), 250);
}

TEST(ChooseValidationTest, CountsAndBounds) {
  EXPECT_TRUE(choose_validation(100, 0, 1).empty());
  EXPECT_EQ(choose_validation(100, 0.05, 1).size(), 5U);
  EXPECT_EQ(choose_validation(101, 0.05, 1).size(), 5U);
  EXPECT_EQ(choose_validation(100, 0.001, 1).size(), 1U);
  EXPECT_EQ(choose_validation(10, 0.999, 1).size(), 9U);
  EXPECT_TRUE(choose_validation(1, 0.5, 1).empty());
  EXPECT_EQ(choose_validation(1000, 0.1, 1), choose_validation(1000, 0.1, 1));
  EXPECT_NE(choose_validation(1000, 0.1, 1), choose_validation(1000, 0.1, 2));
}

}  // namespace
}  // namespace autoglm
