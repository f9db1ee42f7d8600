// The search: pins, budgets, and what it prefers.
#include "launcher/planner/search.h"

#include <gtest/gtest.h>

#include "launcher/planner/probe.h"
#include "tests/trainer/engine/tiny_model.h"

namespace autoglm {
namespace {

MemoryQuestion question_of(int ranks) {
  tiny::Shape shape;
  shape.layers = 6;
  shape.hidden = 128;
  shape.head_dim = 16;
  shape.ffn = 256;
  shape.vocabulary = 700;
  MemoryQuestion question;
  question.model = tiny::config_of(shape);
  question.row_length = 128;
  question.world_size = ranks;
  return question;
}

MemoryBudget apart(std::int64_t device) {
  MemoryBudget budget;
  budget.device = device;
  budget.host = std::int64_t{1} << 40;
  return budget;
}

class SearchTest : public ::testing::Test {
 protected:
  Search search(const StrategyPins& pins, const MemoryBudget& budget) {
    return Search(memory_, rates_, pins, 16, budget);
  }
  std::int64_t plainest() {
    Strategy strategy;
    strategy.master = MasterLayout::split;
    strategy.micro_batch = 8;
    return memory_.price(strategy).device.total;
  }

  MemoryModel memory_{question_of(2)};
  Rates rates_ = guessed_cpu_rates();
};

// In host memory on every CPU, where nothing else is: what states are saved through.
constexpr std::int64_t kSavedThrough = 4 << 20;

TEST_F(SearchTest, WithAllTheMemoryNothingIsComputedTwice) {
  const std::optional<Plan> plan = search({}, apart(std::int64_t{1} << 40)).run();
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->chosen.strategy.recompute, Recompute::none);
  EXPECT_EQ(plan->chosen.strategy.offload_optimizer, 0);
  EXPECT_EQ(plan->predicted.host.peak.total, kSavedThrough);
}

// Less memory never gives a plan that is estimated to be faster, and every plan keeps to its budget.
TEST_F(SearchTest, LessMemoryIsNeverFaster) {
  double before = 0;
  for (const double share : {1.2, 1.0, 0.8, 0.6, 0.4, 0.3}) {
    const auto device = static_cast<std::int64_t>(share * static_cast<double>(plainest()));
    const std::optional<Plan> plan = search({}, apart(device)).run();
    ASSERT_TRUE(plan) << share;
    EXPECT_LE(plan->predicted.device.extent, device);
    // Estimates within 3 % count as equal.
    EXPECT_GE(plan->chosen.time.total(), before / 1.04) << share;
    before = plan->chosen.time.total();
    for (const Candidate& one : plan->alternatives)
      EXPECT_TRUE(strategy_conflict(one.strategy, Precision::bf16).empty());
  }
}

TEST_F(SearchTest, TheFastestOfAllThatFitIsFoundWithinThreePercent) {
  const auto device = static_cast<std::int64_t>(0.6 * static_cast<double>(plainest()));
  Search wanted = search({}, apart(device));
  const std::optional<Plan> plan = wanted.run();
  ASSERT_TRUE(plan);
  StrategySpace space;
  space.world_size = 2;
  space.num_layers = 6;
  space.rows_per_rank = 8;
  for (Strategy one : enumerate_strategies(space, kDefaultHeadChunks)) {
    for (const double offload : {0.0, 0.1, 0.3, 0.5, 0.8, 1.0}) {
      one.offload_optimizer = offload;
      const Candidate candidate = wanted.judge(one);
      const bool is_faster = plan->chosen.time.total() > 1.031 * candidate.time.total();
      EXPECT_FALSE(is_faster && candidate.fits() && memory_.rehearse(one).device.extent <= device)
          << describe_strategy(one);
    }
  }
}

TEST_F(SearchTest, PinsAreKept) {
  StrategyPins pins;
  pins.stage = 1;
  pins.recompute = Recompute::full;
  pins.recompute_layers = 2;
  pins.micro_batch = 4;
  pins.offload_optimizer = 0.25;
  pins.master = MasterLayout::plain;
  pins.head_chunks = 5;
  pins.bf16_moments = true;
  const std::optional<Plan> plan = search(pins, apart(std::int64_t{1} << 40)).run();
  ASSERT_TRUE(plan);
  const Strategy& chosen = plan->chosen.strategy;
  EXPECT_EQ(chosen.stage, 1);
  EXPECT_EQ(chosen.recompute, Recompute::full);
  EXPECT_EQ(chosen.recompute_layers, 2);
  EXPECT_EQ(chosen.micro_batch, 4);
  EXPECT_EQ(chosen.offload_optimizer, 0.25);
  EXPECT_EQ(chosen.master, MasterLayout::plain);
  EXPECT_EQ(chosen.head_chunks, 5);
  EXPECT_TRUE(chosen.bf16_moments);
  EXPECT_FALSE(chosen.bf16_gradients);
}

TEST_F(SearchTest, OneMemoryForBothIsNeverOffloadedTo) {
  MemoryBudget budget;
  budget.shared = true;
  budget.device = static_cast<std::int64_t>(0.7 * static_cast<double>(plainest()));
  const std::optional<Plan> plan = search({}, budget).run();
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->predicted.host.peak.total, kSavedThrough);
}

TEST_F(SearchTest, NothingFitsAndTheNearestIsNamed) {
  Search hopeless = search({}, apart(1 << 18));
  EXPECT_FALSE(hopeless.run());
  ASSERT_TRUE(hopeless.nearest());
  EXPECT_GT(hopeless.nearest()->device_missing, 0);
}

// The short cut finds a plan wherever one of the searches with a given number of head chunks does; a search
// so pinned takes no short cut.
TEST_F(SearchTest, TheShortCutToNothingFitsLosesNoPlan) {
  StrategyPins unsharded, two_rows;
  unsharded.stage = 0;
  two_rows.micro_batch = 2;
  int found = 0, tried = 0;
  for (const StrategyPins& pins : {StrategyPins{}, unsharded, two_rows}) {
    for (double device = 1 << 19; device < 1e8; device *= 1.35) {
      for (const double host : {0.0, 4e6, 16e6, 1e12}) {
        MemoryBudget budget = apart(static_cast<std::int64_t>(device));
        budget.host = static_cast<std::int64_t>(host);
        bool fits = false;
        for (std::int64_t chunks = kDefaultHeadChunks; chunks <= 128 && !fits; chunks *= 2) {
          StrategyPins pinned = pins;
          pinned.head_chunks = chunks;
          fits = search(pinned, budget).run().has_value();
        }
        EXPECT_EQ(search(pins, budget).run_unless_hopeless().has_value(), fits) << device << " " << host;
        EXPECT_EQ(search(pins, budget).run().has_value(), fits) << device << " " << host;
        ++tried;
        found += fits;
      }
    }
  }
  EXPECT_GT(found, tried / 10);
  EXPECT_LT(found, tried * 9 / 10);
}

TEST_F(SearchTest, AHostThatIsTooSmallIsRespected) {
  MemoryBudget budget = apart(static_cast<std::int64_t>(0.35 * static_cast<double>(plainest())));
  const std::optional<Plan> plan = search({}, budget).run();
  ASSERT_TRUE(plan);
  ASSERT_GT(plan->predicted.host.extent, 0);
  budget.host = plan->predicted.host.extent / 2;
  const std::optional<Plan> smaller = search({}, budget).run();
  EXPECT_TRUE(!smaller || smaller->predicted.host.extent <= *budget.host);
}

// On a CUDA device as few as there is room for, and not on the CPU, whose bits they would change for nothing.
TEST(SearchTestOfHeadChunks, AreFewWhereThereIsRoom) {
  const auto chunks = [](ops::Target target, std::int64_t spare, std::optional<std::int64_t> pinned = {}) {
    MemoryQuestion question = question_of(1);
    question.model.vocabulary_size = 20'000;
    question.target = target;
    MemoryModel memory(question);
    StrategyPins pins;
    pins.micro_batch = 8;
    pins.recompute = Recompute::none;
    pins.head_chunks = pinned;
    Strategy strategy = pinned_strategy(pins, Precision::bf16);
    strategy.micro_batch = 8;
    strategy.master = MasterLayout::split;
    const std::optional<Plan> plan =
        Search(memory, guessed_cpu_rates(), pins, 8, apart(memory.rehearse(strategy).device.extent + spare))
            .run();
    EXPECT_TRUE(plan);
    EXPECT_LE(plan->predicted.device.extent, memory.rehearse(strategy).device.extent + spare);
    return plan->chosen.strategy.head_chunks;
  };
  constexpr std::int64_t kChunk = 128 * 20'000 * 4;  // fp32 logits of an eighth of the tokens
  EXPECT_EQ(chunks(ops::Target::cuda, std::int64_t{1} << 32), 1);
  EXPECT_EQ(chunks(ops::Target::cuda, 3 * kChunk), 4);
  EXPECT_EQ(chunks(ops::Target::cuda, 0), 8);
  EXPECT_EQ(chunks(ops::Target::cuda, std::int64_t{1} << 32, 3), 3);
  EXPECT_EQ(chunks(ops::Target::cpu, std::int64_t{1} << 32), 8);
}

}  // namespace
}  // namespace autoglm
