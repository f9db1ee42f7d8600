// The checkpoint that a run goes on from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

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
  std::vector<std::filesystem::path> unusable = {};  // newer ones, which are not as they were written

  std::int64_t step() const { return checkpoint.manifest().step; }
  const std::string& run() const { return checkpoint.manifest().run; }
  // What job_progress() wrote; check_training_record() has seen it.
  const nlohmann::ordered_json& training() const { return checkpoint.manifest().training; }
};

// The newest whole checkpoint of what --resume names, verified by all ranks together; none where there is nothing to go
// on from. With "auto" those of the run whose record is in the output folder are looked at, `run`; where there is no
// record, and `run` is empty, those that were written for this output folder. Checkpoints that are not as they were
// written are named and passed over; one that cannot be read is tried again for some seconds, and then ends the job.
// Throws AgreedError(bad_data) where there are some and none can be used, AgreedError(io_failed) where one cannot be read,
// AgreedError(missing_input) where --resume names no checkpoint, AgreedError(cannot_create) where some ranks do not see
// the folder, or options differ that change the result and are not allowed to. Collective.
std::optional<ResumePoint> find_resume_point(const TrainOptions& options, const std::string& run,
                                             Communicator& ranks);

// Whether two paths lead to one folder, or will once it is there.
bool is_same_folder(const std::filesystem::path& one, const std::filesystem::path& other);

// Whether the checkpoint was written by a job with the output folder of these options.
bool is_of_these_folders(const Manifest& manifest, const TrainOptions& options);

// The options with what a checkpoint was trained with, where nobody has set it: the route of products, and on as many
// ranks as before the rows of a micro-batch and the chunks of the head. Others need other rows, or some would have none.
TrainOptions with_choices_of(const ResumePoint& point, TrainOptions options, int num_ranks);

// Master weights for load_weights(), of what the checkpoint holds, which must outlive the reader.
WeightReader trained_weights(const CheckpointReader& checkpoint);

// Fills the moments that this rank holds, where there are any yet. Throws Error(io_failed).
void load_moments(const CheckpointReader& checkpoint, Engine& engine);

}  // namespace autoglm
