// What an earlier run left in the output folder, and what becomes of it.
#pragma once

#include <optional>
#include <string>

#include "checkpoint/step_store/step_store.h"
#include "launcher/job/resume_point.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"

namespace autoglm {

// The run that a job is: a new one, or one that it goes on with.
struct RunIdentity {
  std::string run;                    // 32 digits, the same on every rank
  std::string earlier;                // of the run before in the output folder; empty: none, or the same
  bool finished = false;              // that one is
  bool goes_on = false;               // with the run whose record is in the output folder
  std::optional<ResumePoint> resume;  // none: from the beginning
};

// Whether the output folder holds a finished run of these options, so that nothing is left to do; rank 0 says so then.
// Collective.
bool is_finished_already(const TrainOptions& options, Communicator& ranks);

// Throws what find_resume_point() throws. Collective.
RunIdentity identify_run(const TrainOptions& options, Communicator& ranks);

// Where the run's checkpoints go, with what is to go from there gone: what the run left unfinished, checkpoints that
// cannot be used, which are renamed, and those of the earlier run that is replaced. Every rank sees the folder
// afterwards. Throws AgreedError(cannot_create), also where checkpoints of others are there, or where some ranks do not see
// what rank 0 writes, naming their hosts. Collective.
StepStore open_step_store(const TrainOptions& options, const RunIdentity& identity, Communicator& ranks);

}  // namespace autoglm
