// One training, from the options to the model on disk.
#pragma once

#include <string>

#include "launcher/train_options.h"
#include "sharding/communicator.h"

namespace autoglm {

// This rank among the ranks of its host, and the MPI library that connects them (empty without one).
struct LocalRank {
  int rank = 0;
  int size = 1;
  std::string mpi_version;
};

// Loads, trains, evaluates and writes, or with --dry-run says what it would do. Called by all ranks. Throws
// Error; AgreedError when all ranks throw it together.
void run_training_job(const TrainOptions& options, Communicator& communicator, const LocalRank& local);

}  // namespace autoglm
