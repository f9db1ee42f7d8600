// The checkpoint that a run goes on from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "checkpoint/step_store/checkpoint_reader.h"
#include "launcher/job/model_transfer.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"
#include "trainer/engine/engine.h"

namespace autoglm {

// Where a run's checkpoints are.
std::filesystem::path checkpoint_directory(const TrainOptions& options);

struct ResumePoint {
  CheckpointReader checkpoint;

  std::int64_t step() const { return checkpoint.manifest().step; }
  // What JobProgress wrote (job_progress.h).
  const nlohmann::ordered_json& training() const { return checkpoint.manifest().training; }
};

// The newest whole checkpoint of what --resume names, verified by all ranks together; none where there is nothing to go
// on from. Those that cannot be used are named. Throws AgreedError(bad_data) where there are some and none can be used,
// AgreedError(missing_input) where --resume names a folder that is none, AgreedError(cannot_create) where options differ
// that change the result and are not allowed to. Collective.
std::optional<ResumePoint> find_resume_point(const TrainOptions& options, Communicator& ranks);

// The options with what a checkpoint was trained with, where nobody has set it: the route of products, and on as many
// ranks as before the rows of a micro-batch and the chunks of the head. Others need other rows, or some would have none.
TrainOptions with_choices_of(const ResumePoint& point, TrainOptions options, int num_ranks);

// Master weights for load_weights(), of what the checkpoint holds, which must outlive the reader.
WeightReader trained_weights(const CheckpointReader& checkpoint);

// Fills the moments that this rank holds, where there are any yet. Throws Error(io_failed).
void load_moments(const CheckpointReader& checkpoint, Engine& engine);

}  // namespace autoglm
