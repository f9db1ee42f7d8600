#include "sharding/strategy_pins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace autoglm {
namespace {

// Other than by default in every part.
constexpr Strategy kUnusual{.stage = 3,
                            .recompute = Recompute::full,
                            .recompute_layers = 2,
                            .micro_batch = 4,
                            .head_chunks = 5,
                            .weights = WeightSourceKind::host,
                            .master = MasterLayout::split,
                            .offload_optimizer = 0.25,
                            .offload_activations = 0.5,
                            .bf16_gradients = true,
                            .bf16_moments = true,
                            .reduce = ReduceMode::step,
                            .reduce_scatter = ReduceScatter::nccl,
                            .bf16_reduce = true};

StrategyPins pins_of(const Strategy& strategy) {
  StrategyPins pins;
  each_field([&](auto field) { pins.*field.pin = strategy.*field.value; });
  return pins;
}

TEST(StrategyFields, AreAllVisited) {
  // As many names as a strategy has members, or this does not compile.
  [[maybe_unused]] const auto [a, b, c, d, e, f, g, h, i, j, k, l, m, n] = Strategy();
  std::set<std::string_view> names;
  each_field([&](auto field) {
    names.insert(field.name);
    Strategy changed;
    changed.*field.value = kUnusual.*field.value;
    EXPECT_NE(changed, Strategy()) << field.name;
  });
  EXPECT_EQ(names.size(), 14U);
}

TEST(StrategyFields, HaveWordsForTheirValues) {
  each_field([](auto field) {
    if (!field.words.empty()) {
      EXPECT_THAT(word_of(field.words, kUnusual.*field.value),
                  ::testing::AnyOf("zero3", "full", "host", "split", "bf16", "step", "nccl"));
    }
  });
}

TEST(StrategyPins, GiveTheStrategyThatTheyName) {
  EXPECT_EQ(pinned_strategy(pins_of(kUnusual), Precision::fp32), kUnusual);
  Strategy plain;
  plain.master = MasterLayout::split;
  EXPECT_EQ(pinned_strategy({}, Precision::bf16), plain);
}

TEST(StrategyPins, AreCompleteWithoutANumberOfLayers) {
  StrategyPins pins = pins_of(kUnusual);
  EXPECT_TRUE(pins.complete());
  pins.recompute_layers.reset();
  EXPECT_TRUE(pins.complete());
  pins.head_chunks.reset();
  EXPECT_FALSE(pins.complete());
}

TEST(StrategyPins, WithoutChoicesKeepWhatChangesLastBits) {
  const Strategy open = pinned_strategy(without_choices(pins_of(kUnusual)), Precision::fp32);
  EXPECT_EQ(open, (Strategy{.bf16_gradients = true,
                            .bf16_moments = true,
                            .reduce = ReduceMode::step,
                            .reduce_scatter = ReduceScatter::nccl,
                            .bf16_reduce = true}));
}

}  // namespace
}  // namespace autoglm
