// One training, from the options to the model on disk.
#pragma once

#include "launcher/job/local_rank.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"

namespace autoglm {

// Loads, trains, evaluates and writes, or with --dry-run says what it would do. Called by all ranks. Throws
// Error; AgreedError when all ranks throw it together. `control` is for host memory.
void run_training_job(const TrainOptions& options, Communicator& control, const LocalRank& local);

}  // namespace autoglm
