// One step rehearsed and the same step measured.
#pragma once

#include <gtest/gtest.h>

#include <numeric>

#include "sharding/memory/job_memory.h"
#include "tests/trainer/engine/tiny_model.h"
#include "trainer/engine/rehearsal.h"

namespace autoglm::tiny {

// What a test varies of a step.
struct StepShape {
  Shape model;
  Precision precision = Precision::bf16;
  Strategy strategy = {.head_chunks = 4};
  std::int64_t row_length = 96;
  std::int64_t micro_batches = 2;
};

inline EngineOptions options_of(const StepShape& shape) {
  EngineOptions options;
  options.precision = shape.precision;
  options.row_length = shape.row_length;
  options.strategy = shape.strategy;
  options.saves_states = true;
  return options;
}

inline std::string describe(const StepShape& s) {
  return fmt::format(
      "{}{}{} hidden {} ffn {} vocabulary {}, {}, {}, micro-batch {} x {} x {}, {} head chunks",
      s.model.family, s.model.tied ? " tied" : "", s.model.norm_first ? "" : " norms last", s.model.hidden,
      s.model.ffn, s.model.vocabulary, precision_name(s.precision), describe_strategy(s.strategy),
      s.micro_batches, s.strategy.micro_batch, s.row_length, s.strategy.head_chunks);
}

inline MemoryStatistics rehearsed(const StepShape& shape, int rank, int world_size) {
  RehearsalRequest request;
  request.model = config_of(shape.model);
  request.options = options_of(shape);
  request.rank = rank;
  request.world_size = world_size;
  request.micro_batches = shape.micro_batches;
  return rehearse(request);
}

// Runs the step on the CPU arena with random documents from `random`. What was in use before counts nowhere.
inline MemoryStatistics measured(const StepShape& shape, Communicator& communicator, std::mt19937& random) {
  Model model = make_model(config_of(shape.model));
  job_memory().reset_peak();
  const MemoryStatistics before = job_memory().statistics();
  Engine engine(model, options_of(shape), communicator);
  MicroBatch batch(shape.strategy.micro_batch, shape.row_length, at::kCPU);
  load_random(engine, 1, 0.05f);
  const auto next_batch = [&] {
    std::vector<Row> rows;
    for (std::int64_t i = 0; i < shape.strategy.micro_batch; ++i) {
      rows.push_back(random_row(random, shape.row_length, shape.model.vocabulary,
                                0.1 * static_cast<double>(random() % 10)));
    }
    fill(batch, rows);
  };
  double loss = 0;
  for (std::int64_t i = 0; i < shape.micro_batches; ++i) {
    next_batch();
    loss += engine.train_micro_batch(batch, 0.01f);
  }
  const StepSums sums = engine.finish_accumulation(loss);
  engine.optimizer_step({}, 1e-3, 1, clip_factor(sums.gradient_norm, 1.0));
  next_batch();
  EXPECT_TRUE(std::isfinite(engine.evaluate_micro_batch(batch)));
  // Comparable only if the engine had the arenas for itself.
  EXPECT_EQ(before.device.use.total, 0);
  EXPECT_EQ(before.host.use.total, 0);
  return job_memory().statistics();
}

// The promise: never less than measured, and at most 0.5 % more.
inline void expect_pool_holds(const ArenaStatistics& rehearsal, const ArenaStatistics& real) {
  EXPECT_GE(rehearsal.peak.total, real.peak.total);
  EXPECT_LE(static_cast<double>(rehearsal.peak.total), 1.005 * static_cast<double>(real.peak.total));
  EXPECT_GE(rehearsal.extent, real.extent);
  EXPECT_LE(static_cast<double>(rehearsal.extent), 1.005 * static_cast<double>(real.extent));
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    EXPECT_EQ(rehearsal.peak.by_category[i], real.peak.by_category[i])
        << category_name(static_cast<MemoryCategory>(i)) << ", measured beside rehearsed at the peak";
  }
}

inline void expect_rehearsal_holds(const MemoryStatistics& rehearsal, const MemoryStatistics& real) {
  expect_pool_holds(rehearsal.device, real.device);
  expect_pool_holds(rehearsal.host, real.host);
}

}  // namespace autoglm::tiny
