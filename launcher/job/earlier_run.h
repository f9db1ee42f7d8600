// What an earlier run left in the output folder, and whether a job goes on with it.
#pragma once

#include <optional>
#include <string>

#include "launcher/job/input_marks.h"
#include "launcher/job/resume_point.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"

namespace autoglm {

// The run that a job is: a new one, or one that it goes on with.
struct RunIdentity {
  std::string run;                    // 32 digits, the same on every rank
  std::string recorded;               // of the run whose record is in the output folder; empty: none
  bool finished = false;              // that one is
  bool goes_on = false;               // with that one
  std::optional<ResumePoint> resume;  // none: from the beginning

  // The run before in the output folder, where it is another one; else empty.
  std::string earlier() const { return recorded == run ? "" : recorded; }
};

// Whether the output folder holds a finished run of options that would write the same. Collective.
bool has_finished_alike(const TrainOptions& options, Communicator& ranks);

// Where has_finished_alike(): says that nothing is left to do, or throws AgreedError(cannot_create) where that run had
// other inputs, or its files are gone. Collective.
void tell_finished(const TrainOptions& options, const InputMarks& marks, Communicator& ranks);

// A checkpoint of another run is gone on from by a new run, which has checkpoints of its own. Throws what
// find_resume_point() throws, AgreedError(missing_input) where the run in the output folder has checkpoints that are not
// looked at, and AgreedError(cannot_create) where it has some and --resume names those of another one. Collective.
RunIdentity identify_run(const TrainOptions& options, Communicator& ranks);

// To be called when the output folder is locked. Throws AgreedError(cannot_create) where another job has changed meanwhile
// what identify_run() went by. Collective.
void check_still_so(const TrainOptions& options, const RunIdentity& identity, Communicator& ranks);

}  // namespace autoglm
