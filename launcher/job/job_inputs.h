// What a job reads before it allocates anything: the model's description, its tokenizer and template, the data.
#pragma once

#include "checkpoint/model_directory.h"
#include "launcher/options/train_options.h"
#include "sharding/communicator.h"
#include "trainer/data/chat_template.h"
#include "trainer/data/dataset.h"
#include "trainer/data/tokenizer/tokenizer.h"
#include "trainer/models/model.h"

namespace autoglm {

struct JobInputs {
  ModelDirectory directory;
  Model model;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

// Everything but the data, checked against the options. Throws what its parts throw, each with the file at fault.
JobInputs read_inputs(const TrainOptions& options);

// The data as every rank then holds it, checked against the model. Collective.
Dataset load_data(const TrainOptions& options, const JobInputs& inputs, Communicator& communicator);

}  // namespace autoglm
