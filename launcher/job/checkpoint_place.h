// The folder that a job's checkpoints go to.
#pragma once

#include "checkpoint/file.h"
#include "checkpoint/step_store/step_store.h"
#include "launcher/job/earlier_run.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"

namespace autoglm {

struct CheckpointPlace {
  StepStore store;
  File lock;  // on rank 0, where it is not the output folder, which is locked already
};

// Takes the folder, and removes nothing yet. Every rank sees it. Throws AgreedError(cannot_create), also where checkpoints
// of others are there, another job saves there now, or some ranks do not see what rank 0 writes, naming their hosts.
// Collective.
CheckpointPlace take_checkpoint_place(const TrainOptions& options, const RunIdentity& identity,
                                      Communicator& ranks);

// Removes what is to go: what the run left unfinished, and the checkpoints of the earlier run that is replaced. Those
// that cannot be used, and those of later steps than a run goes on from, are renamed. What cannot be removed is named in
// a warning. Throws AgreedError(io_failed). Collective.
void clear_checkpoint_place(const StepStore& store, const RunIdentity& identity, Communicator& ranks);

}  // namespace autoglm
