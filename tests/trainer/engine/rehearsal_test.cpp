// A step rehearsed on meta tensors allocates what the same step does on the CPU.
#include <algorithm>
#include <chrono>

#include "sharding/memory/rehearsal_arena.h"
#include "sharding/reduce_route.h"
#include "tests/trainer/engine/rehearsal_checks.h"
#include "trainer/engine/micro_batch.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

class RehearsalTest : public ::testing::Test {
 protected:
  RehearsalTest() { install_job_memory(); }

  // Twice, with other documents: data must not matter.
  void check(const tiny::StepShape& shape) {
    SCOPED_TRACE(tiny::describe(shape));
    const MemoryStatistics rehearsal = tiny::rehearsed(shape, 0, 1);
    const auto communicator = make_self_communicator();
    for (int i = 0; i < 2; ++i) {
      const MemoryStatistics real = tiny::measured(shape, *communicator, random_);
      tiny::expect_rehearsal_holds(rehearsal, real);
      largest_excess_ = std::max(
          largest_excess_,
          static_cast<double>(rehearsal.device.peak.total) / static_cast<double>(real.device.peak.total) - 1);
    }
    ++num_steps_;
  }

  ~RehearsalTest() override {
    if (num_steps_ == 0) return;
    fmt::print("{} steps; largest excess of a rehearsal over the measured peak: {:.4f} %\n", num_steps_,
               100 * largest_excess_);
  }

  std::mt19937 random_{11};
  double largest_excess_ = -1;
  int num_steps_ = 0;
};

void with_levels(const tiny::StepShape& base, const std::function<void(const tiny::StepShape&)>& visit) {
  for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
    for (const std::int64_t layers : {-1, 2}) {
      if (level == Recompute::none && layers >= 0) continue;
      tiny::StepShape shape = base;
      shape.strategy.recompute = level;
      shape.strategy.recompute_layers = layers;
      visit(shape);
    }
  }
}

// Beside a CUDA device targets lie on the host, where the head reads them.
TEST(RehearsedMicroBatch, HasItsTargetsWhereTheJobHasThem) {
  constexpr std::int64_t kRows = 2, kLength = 2048;
  const ops::Target before = ops::rehearsal_target();
  for (const ops::Target target : {ops::Target::cpu, ops::Target::cuda}) {
    ops::set_rehearsal_target(target);
    const bool cuda = target == ops::Target::cuda;
    const RehearsalArena arena(std::int64_t{1} << 50, cuda ? Arena::kCudaAlignment : Arena::kCpuAlignment);
    const MicroBatch batch(kRows, kLength, at::kMeta);
    const MemoryStatistics now = arena.statistics();
    EXPECT_EQ(now.device.use[MemoryCategory::data], kRows * kLength * (8 + 4 + (cuda ? 0 : 4)));
    // Ids and positions too, on their way.
    EXPECT_EQ(now.host.use[MemoryCategory::data], cuda ? kRows * kLength * (8 + 4 + 4) : 0);
  }
  ops::set_rehearsal_target(before);
}

// FlashAttention's deterministic backward has one part of dq's sums for every share of the device.
TEST(RehearsedAttention, HasRoomForAllMultiprocessors) {
  const auto peak = [](int multiprocessors) {
    tiny::StepShape shape;
    shape.model.head_dim = 16;
    RehearsalRequest request;
    request.model = tiny::config_of(shape.model);
    request.options = tiny::options_of(shape);
    request.target = ops::Target::cuda;
    request.multiprocessors = multiprocessors;
    std::int64_t most = 0;
    for (const RehearsedPhase& one : rehearse_phases(request)) {
      if (one.phase == EnginePhase::backward) most = std::max(most, one.device_peak.total);
    }
    return most;
  };
  const std::int64_t part = 6 * 32 * 4;  // of a token: heads, their dimension rounded up, fp32
  // 22 and 25 shares for one document of 96 tokens, rounded up to 224.
  EXPECT_EQ(peak(148) - peak(132), 3 * 224 * part);
}

TEST_F(RehearsalTest, HoldsForBothFamiliesAtEveryLevel) {
  for (const char* family : {"llama", "glm4"}) {
    for (const bool tied : {false, true}) {
      for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        tiny::StepShape base;
        base.model.family = family;
        base.model.tied = tied;
        base.model.attention_bias = !tied;
        base.model.head_dim = 12;
        base.precision = precision;
        with_levels(base, [&](const tiny::StepShape& shape) { check(shape); });
      }
    }
  }
}

TEST_F(RehearsalTest, HoldsForOptAtEveryLevel) {
  for (const bool norm_first : {true, false}) {
    for (const bool tied : {true, false}) {
      for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        tiny::StepShape base;
        base.model.family = "opt";
        base.model.tied = tied;
        base.model.norm_first = norm_first;
        base.model.embedding = norm_first && tied ? 0 : 28;
        base.precision = precision;
        base.strategy.micro_batch = tied ? 2 : 1;
        with_levels(base, [&](const tiny::StepShape& shape) { check(shape); });
      }
    }
  }
}

TEST_F(RehearsalTest, HoldsForEveryMicroBatchAndNumberOfHeadChunks) {
  for (const std::int64_t micro_batch : {1, 2, 5}) {
    for (const std::int64_t chunks : {1, 3, 8, 1000}) {
      for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        tiny::StepShape shape;
        shape.model.layers = 2;
        shape.precision = precision;
        shape.strategy.micro_batch = micro_batch;
        shape.strategy.head_chunks = chunks;
        shape.micro_batches = chunks == 1 ? 1 : 3;
        shape.row_length = chunks == 3 ? 131 : 64;
        check(shape);
      }
    }
  }
}

// A vocabulary that dwarfs the rest, a wide MLP, long rows that dwarf the weights.
TEST_F(RehearsalTest, HoldsForUnevenShapes) {
  const tiny::Shape models[] = {
      {.tied = true,
       .layers = 2,
       .hidden = 64,
       .heads = 4,
       .key_heads = 4,
       .head_dim = 16,
       .vocabulary = 8009},
      {.tied = false, .layers = 2, .hidden = 64, .heads = 8, .key_heads = 1, .head_dim = 8, .ffn = 2048},
      {.family = "glm4", .layers = 4, .hidden = 128, .heads = 4, .key_heads = 2, .head_dim = 64, .ffn = 256},
      {.layers = 1, .hidden = 8, .heads = 2, .key_heads = 1, .head_dim = 4, .ffn = 12, .vocabulary = 17},
  };
  for (const tiny::Shape& model : models) {
    for (const Precision precision : {Precision::fp32, Precision::bf16}) {
      tiny::StepShape base;
      base.model = model;
      base.precision = precision;
      base.row_length = model.vocabulary > 1000 ? 48 : 320;
      with_levels(base, [&](const tiny::StepShape& shape) { check(shape); });
    }
  }
}

// Rows longer than one tile of a projection.
TEST_F(RehearsalTest, HoldsForMoreTokensThanOneTile) {
  tiny::StepShape shape;
  shape.model.layers = 1;
  shape.model.head_dim = 4;
  shape.strategy.micro_batch = 3;
  shape.row_length = 1024;
  shape.micro_batches = 1;
  check(shape);
}

TEST_F(RehearsalTest, KnowsWhereMemoryGoes) {
  tiny::StepShape shape;
  shape.model.layers = 8;
  shape.row_length = 512;
  const std::int64_t none = tiny::rehearsed(shape, 0, 1).device.peak.total;
  shape.strategy.recompute = Recompute::cheap;
  const std::int64_t cheap = tiny::rehearsed(shape, 0, 1).device.peak.total;
  shape.strategy.recompute = Recompute::full;
  const std::int64_t full = tiny::rehearsed(shape, 0, 1).device.peak.total;
  EXPECT_LT(cheap, none);
  EXPECT_LT(full, cheap);
  // A vocabulary whose logits outweigh a layer.
  shape.strategy.recompute = Recompute::none;
  shape.model.vocabulary = 4000;
  const std::int64_t many_chunks = tiny::rehearsed(shape, 0, 1).device.peak.total;
  shape.strategy.head_chunks = 1;
  EXPECT_GT(tiny::rehearsed(shape, 0, 1).device.peak.total, many_chunks);
}

TEST_F(RehearsalTest, SaysWhatDoesNotFit) {
  RehearsalRequest request;
  request.model = tiny::config_of({});
  request.options.row_length = 64;
  const std::int64_t needed = rehearse(request).device.extent;
  request.device_limit = needed;
  EXPECT_EQ(rehearse(request).device.extent, needed);
  request.device_limit = needed - 64;
  EXPECT_THROW(rehearse(request), OutOfMemory);
}

TEST_F(RehearsalTest, CountsWhatDevicesReceiveTheirSumsIn) {
  RehearsalRequest request;
  request.model = tiny::config_of({});
  request.options.row_length = 64;
  request.world_size = 2;
  const auto peak = [&](ops::Target target, ReduceScatter reduce_scatter) {
    request.target = target;
    request.options.strategy.reduce_scatter = reduce_scatter;
    return rehearse(request).device.peak.total;
  };
  EXPECT_EQ(peak(ops::Target::cuda, ReduceScatter::ordered),
            peak(ops::Target::cuda, ReduceScatter::nccl) + reduce_staging_bytes(2));
  EXPECT_EQ(peak(ops::Target::cpu, ReduceScatter::ordered), peak(ops::Target::cpu, ReduceScatter::nccl));
  request.world_size = 1;
  EXPECT_EQ(peak(ops::Target::cuda, ReduceScatter::ordered), peak(ops::Target::cuda, ReduceScatter::nccl));
}

// The shape of SmolLM2-135M. The bound is generous because other programs may run; the time is printed.
TEST_F(RehearsalTest, IsQuick) {
  RehearsalRequest request;
  request.model = tiny::config_of({.tied = true,
                                   .layers = 30,
                                   .hidden = 576,
                                   .heads = 9,
                                   .key_heads = 3,
                                   .head_dim = 64,
                                   .ffn = 1536,
                                   .vocabulary = 49152});
  request.options.strategy.micro_batch = 2;
  request.options.row_length = 512;
  for (const Recompute level : {Recompute::none, Recompute::full}) {
    request.options.strategy.recompute = level;
    const auto start = std::chrono::steady_clock::now();
    const ArenaStatistics statistics = rehearse(request).device;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("recompute {}: a step of 30 layers rehearsed in {:.3f} s, peak {} bytes\n",
               recompute_name(level), seconds, statistics.peak.total);
    EXPECT_LT(seconds, 2.0);
    EXPECT_GT(statistics.peak.total, std::int64_t{2} << 30);
  }
}

}  // namespace
}  // namespace autoglm
