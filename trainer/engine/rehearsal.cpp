#include "trainer/engine/rehearsal.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "sharding/memory/category.h"
#include "sharding/memory/rehearsal_arena.h"
#include "sharding/reduce_route.h"
#include "trainer/engine/engine.h"

namespace autoglm {
namespace {

std::int64_t alignment_of(ops::Target target) {
  return target == ops::Target::cuda ? Arena::kCudaAlignment : Arena::kCpuAlignment;
}

class TargetScope {
 public:
  explicit TargetScope(const RehearsalRequest& request)
      : target_(ops::rehearsal_target()), multiprocessors_(ops::rehearsal_multiprocessors()) {
    ops::set_rehearsal_target(request.target);
    ops::set_rehearsal_multiprocessors(request.multiprocessors);
  }
  ~TargetScope() {
    ops::set_rehearsal_target(target_);
    ops::set_rehearsal_multiprocessors(multiprocessors_);
  }
  TargetScope(const TargetScope&) = delete;
  TargetScope& operator=(const TargetScope&) = delete;

 private:
  ops::Target target_;
  int multiprocessors_;
};

void run_step(Engine& engine, const RehearsalRequest& request) {
  const MicroBatch batch(engine.options().strategy.micro_batch, engine.options().row_length,
                         engine.options().device);
  for (std::int64_t i = 1; i <= request.micro_batches; ++i)
    engine.train_micro_batch(batch, 1, i == request.micro_batches);
  engine.finish_accumulation(0);
  engine.optimizer_step({}, 0, 1, 1);
  engine.evaluate_micro_batch(batch);
  if (engine.out_of_memory()) throw *engine.out_of_memory();
}

// What a device's communicator holds from before the engine begins to after it has ended.
at::Tensor communicator_staging(const RehearsalRequest& request) {
  const bool stages = request.target == ops::Target::cuda &&
                      request.options.strategy.reduce_scatter == ReduceScatter::ordered;
  const std::int64_t bytes = stages ? reduce_staging_bytes(request.world_size) : 0;
  const CategoryScope category(MemoryCategory::workspace);
  return bytes == 0 ? at::Tensor()
                    : at::empty({bytes}, at::TensorOptions().device(at::kMeta).dtype(at::kByte));
}

void rehearse_engine(const RehearsalRequest& request, EngineOptions options, bool only_construction) {
  Model model = make_model(request);
  options.device = at::Device(at::kMeta);
  const at::Tensor staging = communicator_staging(request);
  const auto communicator = make_rehearsal_communicator(request.rank, request.world_size);
  Engine engine(model, options, *communicator);
  if (!only_construction) run_step(engine, request);
}

void keep_larger(MemoryUse& largest, const MemoryUse& use) {
  if (use.total > largest.total) largest = use;
}

}  // namespace

Model make_model(const RehearsalRequest& request) {
  Model model =
      request.layers.empty() ? make_model(request.model) : make_model(request.model, request.layers);
  const std::unordered_set<std::string_view> frozen(request.frozen.begin(), request.frozen.end());
  for (Parameter* parameter : model.parameters())
    parameter->set_trainable(!frozen.contains(parameter->name()));
  return model;
}

MemoryStatistics rehearse(const RehearsalRequest& request) {
  const TargetScope target(request);
  const RehearsalArena arena(request.device_limit, alignment_of(request.target));
  rehearse_engine(request, request.options, false);
  return arena.statistics();
}

std::vector<RehearsedPhase> rehearse_phases(const RehearsalRequest& request, bool only_construction) {
  const TargetScope target(request);
  RehearsalArena arena(request.device_limit, alignment_of(request.target));
  WorkCounter counter;
  std::vector<RehearsedPhase> phases;
  EngineOptions options = request.options;
  options.on_phase = [&](EnginePhase phase, std::size_t block) {
    const WorkCount work = counter.take();
    const MemoryStatistics now = arena.statistics();
    arena.reset_peak();
    auto seen = std::find_if(phases.begin(), phases.end(), [&](const RehearsedPhase& one) {
      return one.phase == phase && one.block == block;
    });
    if (seen == phases.end())
      seen = phases.insert(phases.end(), RehearsedPhase{phase, block, {}, {}, {}, {}, work});
    keep_larger(seen->device_peak, now.device.peak);
    keep_larger(seen->host_peak, now.host.peak);
    keep_larger(seen->device_after, now.device.use);
    keep_larger(seen->host_after, now.host.use);
  };
  rehearse_engine(request, options, only_construction);
  return phases;
}

std::vector<PhaseWork> rehearse_work(const RehearsalRequest& request) {
  const TargetScope target(request);
  const RehearsalArena arena(request.device_limit, alignment_of(request.target));
  WorkCounter counter;
  std::vector<PhaseWork> phases;
  EngineOptions options = request.options;
  options.on_phase = [&](EnginePhase phase, std::size_t block) {
    const WorkCount work = counter.take();
    if (phase != EnginePhase::evaluation) phases.push_back({phase, block, work});
  };
  rehearse_engine(request, options, false);
  return phases;
}

}  // namespace autoglm
