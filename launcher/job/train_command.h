// The training job behind autoglm-train.
#pragma once

#include "launcher/options/train_options.h"

namespace autoglm {

// Runs the training that `options` describes on all ranks that were started and returns the exit code of this
// rank. Starts and ends MPI. Throws Error for every failure that has a cause outside the program.
int run_training(const TrainOptions& options);

}  // namespace autoglm
