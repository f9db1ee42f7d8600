#include "launcher/job/job.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "sharding/agree.h"
#include "trainer/training_loop.h"

namespace autoglm {
namespace {

EngineOptions engine_options(const TrainOptions& options, const ModelConfig& config) {
  EngineOptions engine;
  engine.precision = options.training.precision;
  engine.row_length = options.data.sequence_length;
  engine.max_positions = options.data.sequence_length + kSampleTokens;
  if (const auto limit = config.position_limit())
    engine.max_positions = std::min(engine.max_positions, *limit);
  engine.seed = options.training.seed;
  engine.saves_states = true;
  return engine;
}

// Collective.
Decisions decide_as(const TrainOptions& options, const JobInputs& inputs, const Dataset& dataset,
                    JobDevice& device, const LocalRank& local) {
  Communicator& communicator = device.communicator();
  EngineOptions engine = engine_options(options, inputs.model.config);
  engine.device = device.device();
  const LoopOptions& loop = options.training.loop;
  JobPlan job = plan_job(options, inputs.model, engine.max_positions, device, local);
  engine.strategy = job.strategy();
  return run_agreed(communicator, [&] {
    BatchPlan batches(count_rows(dataset, loop), loop.global_batch, communicator.size(),
                      engine.strategy.micro_batch, loop.steps);
    const std::int64_t warmup = warmup_steps(loop.schedule.warmup, batches.num_steps());
    return Decisions{engine, std::move(batches), warmup, std::move(job)};
  });
}

}  // namespace

nlohmann::ordered_json Decisions::to_json() const {
  nlohmann::ordered_json plan = {{"steps", batches.num_steps()}, {"warmup_steps", warmup_steps}};
  plan.update(autoglm::to_json(job));
  return plan;
}

Decisions decide(const TrainOptions& options, const RunIdentity& identity, const JobInputs& inputs,
                 const Dataset& dataset, JobDevice& device, const LocalRank& local) {
  if (!identity.resume) return decide_as(options, inputs, dataset, device, local);
  const Communicator& ranks = device.communicator();
  const bool speaks = ranks.rank() == 0;
  if (speaks)
    spdlog::info("going on from {}, after step {}", identity.resume->checkpoint.folder().string(),
                 identity.resume->step());
  try {
    return decide_as(with_choices_of(*identity.resume, options, ranks.size()), inputs, dataset, device,
                     local);
  } catch (const AgreedError& error) {
    if (error.code() != ExitCode::does_not_fit && error.code() != ExitCode::unavailable) throw;
    if (speaks)
      spdlog::warn(
          "last bits will differ from a run without interruption: what the checkpoint was trained with "
          "cannot be had here: {}",
          error.what());
  }
  return decide_as(options, inputs, dataset, device, local);
}

}  // namespace autoglm
