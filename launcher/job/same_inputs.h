// Every rank reads the model and the data for itself, maybe from a disk of its own host: the files must be
// the same.
#pragma once

#include "checkpoint/model_directory.h"
#include "sharding/communicator.h"
#include "trainer/data/data_options.h"

namespace autoglm {

// Compares what the ranks read: config, tokenizer, templates, weights and data, each file by its size and a
// fingerprint (checkpoint/fingerprint.h). Throws AgreedError(unavailable) on every rank, naming the first
// file that differs and the ranks that have another one. A data file that a rank cannot open is left to its
// reader. Collective.
void check_same_inputs(Communicator& communicator, const ModelDirectory& model, const DataOptions& data);

}  // namespace autoglm
