// A trained model on its way into files: what was trained, and everything else as it came.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>

#include "checkpoint/model_directory.h"
#include "checkpoint/model_writer.h"

namespace autoglm {

// Tensors of a model's files that repeat a parameter: their names, and of which.
using TensorCopies = std::map<std::string, std::string>;

// Refers to its arguments.
class TrainedModel {
 public:
  TrainedModel(const ModelDirectory& directory, const TensorCopies& copies, ModelWriter& writer);

  // Values of a trained parameter, to it and to what repeats it. Throws what ModelWriter::write throws.
  void write(const std::string& name, std::int64_t offset, std::span<const float> values);

  // Every tensor of which nothing was written.
  void copy_the_rest();

 private:
  const ModelDirectory& directory_;
  const TensorCopies& copies_;
  ModelWriter& writer_;
  std::set<std::string> written_;
};

}  // namespace autoglm
