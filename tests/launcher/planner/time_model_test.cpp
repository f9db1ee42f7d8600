// The time of a step composed from a few layers beside the count of a whole rehearsal.
#include "launcher/planner/time_model.h"

#include <gtest/gtest.h>

#include "launcher/planner/configs_folder.h"
#include "launcher/planner/model_catalog.h"
#include "launcher/planner/step_work.h"
#include "launcher/planner/work_seconds.h"
#include "tests/trainer/engine/tiny_model.h"

namespace autoglm {
namespace {

MemoryQuestion question_of(const std::string& family, int ranks) {
  tiny::Shape shape;
  shape.family = family;
  shape.layers = 6;
  shape.hidden = 128;
  shape.head_dim = 16;
  shape.ffn = 256;
  shape.vocabulary = 700;
  MemoryQuestion question;
  question.model = tiny::config_of(shape);
  question.row_length = 128;
  question.world_size = ranks;
  question.target = ops::Target::cuda;
  return question;
}

// Links so fast that only the device takes time, where bytes and operations weigh as much as each other.
Rates rates() {
  Rates rates;
  rates.matrix_flops = 1e14;
  rates.memory_bandwidth = 1e12;
  rates.host_link_bandwidth = rates.host_memory_bandwidth = 1e30;
  rates.link_bandwidth = rates.message_bandwidth = 1e30;
  return rates;
}

double ratio_of(const MemoryQuestion& question, const Strategy& strategy, std::int64_t micro_batches) {
  MemoryModel memory(question);
  const double composed = TimeModel(memory, rates()).step(strategy, micro_batches).total();
  const StepWork counted = count_step(memory, strategy, micro_batches);
  return composed / device_seconds(counted.step, counted.tokens, rates());
}

std::vector<Strategy> strategies(int ranks) {
  std::vector<Strategy> all;
  for (const int stage : ranks > 1 ? std::vector<int>{0, 2, 3} : std::vector<int>{0}) {
    for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
      for (const std::int64_t chunks : {1, 8}) {
        Strategy strategy;
        strategy.stage = stage;
        strategy.master = MasterLayout::split;
        if (stage == 3) strategy.weights = WeightSourceKind::peers;
        strategy.recompute = level;
        strategy.recompute_layers = level == Recompute::cheap ? 4 : -1;
        strategy.micro_batch = 2;
        strategy.head_chunks = chunks;
        all.push_back(strategy);
      }
    }
  }
  return all;
}

TEST(TimeModelTest, AStepTakesAsLongAsWhatItsRehearsalCounts) {
  for (const char* family : {"llama", "glm4", "opt", "qwen2"}) {
    for (const int ranks : {1, 2, 8}) {
      const MemoryQuestion question = question_of(family, ranks);
      for (const Strategy& strategy : strategies(ranks)) {
        for (const std::int64_t micro_batches : {1, 3}) {
          EXPECT_NEAR(ratio_of(question, strategy, micro_batches), 1, 0.02)
              << family << " on " << ranks << " ranks, " << describe_strategy(strategy) << ", "
              << micro_batches << " micro-batches, " << strategy.head_chunks << " chunks";
        }
      }
    }
  }
}

TEST(TimeModelTest, SumsInBf16AndOncePerStepTakeTheirOwnTime) {
  const MemoryQuestion question = question_of("llama", 4);
  Strategy strategy;
  strategy.stage = 2;
  strategy.master = MasterLayout::split;
  strategy.bf16_gradients = true;
  EXPECT_NEAR(ratio_of(question, strategy, 3), 1, 0.02);
  strategy.bf16_gradients = false;
  strategy.stage = 1;
  strategy.reduce = ReduceMode::step;
  EXPECT_NEAR(ratio_of(question, strategy, 3), 1, 0.02);
  strategy.reduce = ReduceMode::micro_batch;
  strategy.offload_optimizer = 0.5;
  EXPECT_NEAR(ratio_of(question, strategy, 3), 1, 0.02);
}

TEST(TimeModelTest, OfAModelOfNineBillionParametersToo) {
  MemoryQuestion question;
  question.model = ModelCatalog(configs_folder() / "models").find("GLM-4-9B-0414");
  question.world_size = 8;
  question.target = ops::Target::cuda;
  Strategy strategy;
  strategy.stage = 3;
  strategy.weights = WeightSourceKind::peers;
  strategy.master = MasterLayout::split;
  strategy.recompute = Recompute::cheap;
  strategy.recompute_layers = 16;
  EXPECT_NEAR(ratio_of(question, strategy, 2), 1, 0.01);
}

// What is kept is computed once; the more is recomputed, the longer the backward passes take.
TEST(TimeModelTest, RecomputeCostsWhatItComputes) {
  MemoryModel memory(question_of("glm4", 1));
  TimeModel time(memory, rates());
  Strategy strategy;
  strategy.micro_batch = 2;
  EXPECT_EQ(time.step(strategy, 1).recompute, 0);
  strategy.recompute = Recompute::full;
  strategy.recompute_layers = 3;
  const double half = time.step(strategy, 1).recompute;
  strategy.recompute_layers = -1;
  EXPECT_NEAR(time.step(strategy, 1).recompute, 2 * half, 1e-12);
  strategy.recompute = Recompute::cheap;
  EXPECT_GT(time.step(strategy, 1).recompute, 0);
  EXPECT_LT(time.step(strategy, 1).recompute, half);
}

}  // namespace
}  // namespace autoglm
