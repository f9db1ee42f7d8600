// What tells a run's inputs from others: marks of the data and of the model, wherever they lie.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "checkpoint/model_directory.h"
#include "launcher/job/job_inputs.h"
#include "sharding/communicator.h"
#include "trainer/data/dataset.h"

namespace autoglm {

struct InputMarks {
  std::string data;     // of every token and label, and of which samples are trained, in order
  std::string config;   // of config.json, its spacing and the order of its keys apart
  std::string weights;  // of the weight files
  bool has_frozen = false;

  // Of the weights that a run needs from the model's directory although it goes on from a checkpoint.
  std::string frozen() const { return has_frozen ? weights : ""; }
  bool operator==(const InputMarks&) const = default;
};

// On rank 0; others leave the model's empty. Throws AgreedError where a file cannot be read. Collective.
InputMarks mark_inputs(const JobInputs& inputs, const Dataset& dataset, Communicator& ranks);

// For run.json: "data", "config", "weights".
nlohmann::ordered_json to_json(const InputMarks& marks);

}  // namespace autoglm
