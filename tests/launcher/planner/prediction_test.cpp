// What is predicted for a step is what the arenas of real ranks measure, and a limit of that size is enough.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "launcher/planner/memory_model.h"
#include "sharding/mpi/mpi_communicator.h"
#include "tests/trainer/engine/engine_test_main.h"
#include "tests/trainer/engine/rehearsal_checks.h"

namespace autoglm {

static MpiSession* session = nullptr;

namespace {

MemoryQuestion question_of(const tiny::StepShape& shape, int world_size) {
  MemoryQuestion question;
  question.model = tiny::config_of(shape.model);
  question.precision = shape.precision;
  question.row_length = shape.row_length;
  question.world_size = world_size;
  return question;
}

// Combinations in which every value of every part occurs with many others.
std::vector<tiny::StepShape> shapes(int world_size, int count) {
  std::mt19937 random(static_cast<std::uint32_t>(17 * world_size));
  const auto pick = [&](auto... values) {
    const std::vector list{values...};
    return list[random() % list.size()];
  };
  std::vector<tiny::StepShape> list;
  while (static_cast<int>(list.size()) < count) {
    tiny::StepShape shape;
    shape.model.family = list.size() % 2 == 0 ? "llama" : "glm4";
    shape.model.tied = pick(0, 1) == 1;
    shape.model.layers = pick(2, 5, 7);
    shape.model.hidden = pick(96, 160);
    shape.model.head_dim = 16;
    shape.model.ffn = pick(200, 320);
    shape.model.vocabulary = pick(500, 900);
    shape.precision = pick(1, 1, 0) == 1 ? Precision::bf16 : Precision::fp32;
    shape.row_length = pick(64, 160, 256);
    Strategy& strategy = shape.strategy;
    strategy.stage = static_cast<int>(list.size() / 2) % 4;
    strategy.recompute = pick(Recompute::none, Recompute::cheap, Recompute::full);
    if (strategy.recompute != Recompute::none) strategy.recompute_layers = pick(-1, 1, 2);
    strategy.micro_batch = pick(1, 2, 3);
    strategy.head_chunks = pick(1, 4, 8);
    strategy.offload_optimizer = pick(0.0, 0.0, 0.37, 1.0);
    if (strategy.recompute == Recompute::full) strategy.offload_activations = pick(0.0, 0.5, 1.0);
    const bool on_host = pick(0, 0, 1) == 1;
    strategy.weights = on_host               ? WeightSourceKind::host
                       : strategy.stage == 3 ? WeightSourceKind::peers
                                             : WeightSourceKind::resident;
    strategy.master = shape.precision == Precision::bf16 ? pick(MasterLayout::split, MasterLayout::plain)
                                                         : MasterLayout::plain;
    if (strategy_conflict(strategy, shape.precision).empty()) list.push_back(shape);
  }
  return list;
}

class PredictionTest : public ::testing::Test {
 protected:
  void SetUp() override { communicator_ = make_mpi_communicator(*session); }

  // Of all ranks.
  std::int64_t largest(std::int64_t mine) {
    std::vector<double> all(static_cast<std::size_t>(session->size()), 0.0);
    all[static_cast<std::size_t>(session->rank())] = static_cast<double>(mine);
    communicator_->all_reduce(all, Event()).synchronize();
    return static_cast<std::int64_t>(*std::max_element(all.begin(), all.end()));
  }

  std::unique_ptr<Communicator> communicator_;
};

void print_errors(const char* what, std::vector<double> errors) {
  std::sort(errors.begin(), errors.end());
  fmt::print("{}: {} runs, error {:+.4f} % to {:+.4f} %, median {:+.4f} %\n", what, errors.size(),
             100 * errors.front(), 100 * errors.back(), 100 * errors[errors.size() / 2]);
}

// "activations 1200 instead of 1000, ..."
std::string differences(const MemoryUse& price, const MemoryUse& predicted) {
  std::string text;
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    if (price.by_category[i] != predicted.by_category[i])
      text += fmt::format("{} {} instead of {}, ", category_name(static_cast<MemoryCategory>(i)),
                          price.by_category[i], predicted.by_category[i]);
  }
  return text;
}

double relative_error(std::int64_t predicted, std::int64_t measured) {
  return measured == 0 ? 0 : static_cast<double>(predicted) / static_cast<double>(measured) - 1;
}

TEST_F(PredictionTest, IsNeverBelowAndAtMostOnePercentAbove) {
  std::mt19937 random(static_cast<std::uint32_t>(session->rank()));
  std::vector<double> errors, prices;
  for (const tiny::StepShape& shape : shapes(session->size(), 40)) {
    SCOPED_TRACE(tiny::describe(shape));
    MemoryModel memory(question_of(shape, session->size()));
    const MemoryStatistics predicted = memory.rehearse(shape.strategy, shape.micro_batches);
    const MemoryPrice price = memory.price(shape.strategy);
    const MemoryStatistics measured = tiny::measured(shape, *communicator_, random);
    const std::int64_t device = largest(measured.device.peak.total), host = largest(measured.host.peak.total);
    errors.push_back(relative_error(predicted.device.peak.total, device));
    prices.push_back(relative_error(price.device.total, device));
    EXPECT_GE(errors.back(), 0);
    EXPECT_LE(errors.back(), 0.01);
    EXPECT_GE(predicted.device.extent, measured.device.extent);
    EXPECT_GE(relative_error(predicted.host.peak.total, host), 0);
    EXPECT_LE(relative_error(predicted.host.peak.total, host), 0.01);
    // Prices only choose what is rehearsed; they should be near.
    const bool part = shape.strategy.offload_activations > 0 && shape.strategy.offload_activations < 1;
    EXPECT_LE(prices.back(), part ? 0.1 : 0.02) << differences(price.device, predicted.device.peak);
    EXPECT_GE(prices.back(), -0.02) << differences(price.device, predicted.device.peak);
    EXPECT_NEAR(relative_error(price.host.total, predicted.host.peak.total), 0, 0.02);
  }
  if (session->rank() != 0) return;
  print_errors("predicted beside measured peak", errors);
  print_errors("composed price beside measured peak", prices);
}

// Runs a step under a limit: whether it ran out of memory on any rank.
bool runs_out(const tiny::StepShape& shape, Communicator& communicator, std::int64_t limit) {
  job_memory().device().set_limit(limit);
  bool failed = false;
  {
    Model model = make_model(tiny::config_of(shape.model));
    std::unique_ptr<Engine> engine;
    try {
      engine = std::make_unique<Engine>(model, tiny::options_of(shape), communicator);
    } catch (const OutOfMemory&) {
      failed = true;  // on all ranks alike: they hold the same
    }
    if (engine) {
      tiny::load_random(*engine, 1, 0.05f);
      const MicroBatch batch(shape.strategy.micro_batch, shape.row_length, at::kCPU);
      double loss = 0;
      for (std::int64_t i = 0; i < shape.micro_batches; ++i) loss += engine->train_micro_batch(batch, 0.01f);
      failed = engine->finish_accumulation(loss).votes.out_of_memory > 0;
      if (!failed) engine->optimizer_step({}, 1e-3, 1, 1);
    }
  }
  job_memory().device().set_limit(std::int64_t{1} << 36);
  return failed;
}

TEST_F(PredictionTest, IsEnoughAndHardlyMoreThanThat) {
  int number = 0;
  for (const tiny::StepShape& shape : shapes(session->size(), 24)) {
    if (number++ % 2 == 1) continue;
    SCOPED_TRACE(tiny::describe(shape));
    const MemoryModel memory(question_of(shape, session->size()));
    const std::int64_t needed = memory.rehearse(shape.strategy, shape.micro_batches).device.extent;
    if (needed < (std::int64_t{11} << 17)) continue;  // a limit is at least 1 MiB
    EXPECT_FALSE(runs_out(shape, *communicator_, needed));
    EXPECT_TRUE(runs_out(shape, *communicator_, needed - needed / 50));
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::testing::run_engine_tests(argc, argv, autoglm::session);
}
