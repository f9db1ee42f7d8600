// What speeds a probe's times are taken for.
#include "launcher/planner/probe.h"

#include <gtest/gtest.h>

#include "launcher/planner/configs_folder.h"
#include "launcher/planner/model_catalog.h"
#include "launcher/planner/search.h"
#include "launcher/planner/work_seconds.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;

MemoryQuestion glm() {
  MemoryQuestion question;
  question.model = ModelCatalog(configs_folder() / "models").find("GLM-4-9B-0414");
  question.world_size = 8;
  question.target = ops::Target::cuda;
  return question;
}

Rates a100() {
  const std::vector<HardwareProfile> profiles = load_hardware_profiles(configs_folder() / "hardware");
  const std::vector<LinkProfile> links = load_links(configs_folder() / "links.json");
  const HardwareProfile& card = find_hardware(profiles, "a100-40gb");
  return rates_of(card, {8, 1}, find_link(links, card.link.name), find_link(links, card.node_link),
                  Precision::bf16);
}

// What a card of these speeds would be timed at.
ProbeTimes times_at(const Rates& rates, const MemoryQuestion& question, std::int64_t micro_batch) {
  const ModelWork work = work_of(question);
  const LayerWork& layer = work.commonest_layer();
  MemoryModel memory(question);
  const PassWork& passes = memory.layer_work(layer.number, micro_batch, Recompute::none);
  const std::int64_t tokens = micro_batch * question.row_length;
  ProbeTimes times;
  times.micro_batch = micro_batch;
  times.row_length = question.row_length;
  times.layer =
      device_seconds(passes.forward, tokens, rates) + device_seconds(passes.backward, tokens, rates);
  times.optimizer = kAdamWBytes * layer.parameters / rates.memory_bandwidth;
  return times;
}

TEST(ProbeTest, TellsTheSpeedsOfTheCardThatWasTimed) {
  Rates truth = a100();
  truth.matrix_flops *= 0.8;
  truth.memory_bandwidth *= 0.9;
  const MemoryQuestion question = glm();
  ProbeTimes times = times_at(truth, question, 2);
  times.gathers = 190e9;
  times.reductions = 60e9;
  times.host_link = 21e9;
  times.host_optimizer = 33e9;
  const Rates rates = explain(times, question, a100());
  EXPECT_NEAR(rates.matrix_flops / truth.matrix_flops, 1, 0.01);
  EXPECT_NEAR(rates.memory_bandwidth / truth.memory_bandwidth, 1, 1e-9);
  EXPECT_EQ(rates.link_bandwidth, 190e9);
  EXPECT_EQ(rates.message_bandwidth, 60e9);
  EXPECT_EQ(rates.host_link_bandwidth, 21e9);
  EXPECT_EQ(rates.host_memory_bandwidth, 33e9);
  EXPECT_EQ(rates.peak_flops, a100().peak_flops);
}

// A short row is a matter of weights and launches, and so is a layer whose products are the lesser part of its time.
TEST(ProbeTest, WhereProductsAreNotMostOfTheTimeTheirSpeedIsNotTold) {
  MemoryQuestion question = glm();
  question.row_length = 163;
  ProbeTimes times = times_at(a100(), question, 1);
  times.layer = 3.5e-3;
  EXPECT_EQ(explain(times, question, a100()).matrix_flops, a100().matrix_flops);

  question = glm();
  times = times_at(a100(), question, 2);
  times.optimizer *= 20;  // a memory so slow that it explains all of the layer's time
  EXPECT_EQ(explain(times, question, a100()).matrix_flops, a100().matrix_flops);
}

TEST(ProbeTest, WhatWasNotTimedStaysAsGuessed) {
  const MemoryQuestion question = glm();
  const Rates rates = explain(times_at(a100(), question, 2), question, a100());
  EXPECT_EQ(rates.link_bandwidth, a100().link_bandwidth);
  EXPECT_EQ(rates.message_bandwidth, a100().message_bandwidth);
  EXPECT_EQ(rates.host_link_bandwidth, a100().host_link_bandwidth);
  EXPECT_EQ(rates.host_memory_bandwidth, a100().host_memory_bandwidth);
}

// A probe of the card that the profile describes plans as the profile does.
TEST(ProbeTest, APlanIsTheSameByTheProfileAndByAProbeOfIt) {
  const MemoryQuestion question = glm();
  const Rates guess = a100();
  const Rates probed = explain(times_at(guess, question, 2), question, guess);
  MemoryModel memory(question);
  MemoryBudget budget;
  budget.device = 36 * kGibibyte;
  budget.host = 60 * kGibibyte;
  const auto plan = [&](const Rates& rates) { return Search(memory, rates, {}, 16, budget).run(); };
  ASSERT_TRUE(plan(guess));
  EXPECT_EQ(plan(guess)->chosen.strategy, plan(probed)->chosen.strategy);
}

TEST(ProbeTest, ShapesSayTheTruthOfTheirDevice) {
  const ModelWork work = work_of(glm());
  const LayerWork& layer = work.commonest_layer();
  for (const std::int64_t length : {128, 2048, 4096, 100'000}) {
    const ProbeTimes shape = probe_shape(layer, length, true);
    EXPECT_EQ(shape.row_length, length);
    EXPECT_GE(shape.micro_batch * length, 4096);
    EXPECT_LT((shape.micro_batch - 1) * length, 4096);
  }
  EXPECT_EQ(probe_shape(layer, 2048, false).row_length, 163);
  EXPECT_EQ(probe_shape(layer, 64, false).row_length, 64);
}

}  // namespace
}  // namespace autoglm
