#include "launcher/job/trained_model.h"

namespace autoglm {

TrainedModel::TrainedModel(const ModelDirectory& directory, const TensorCopies& copies, ModelWriter& writer)
    : directory_(directory), copies_(copies), writer_(writer) {}

void TrainedModel::write(const std::string& name, std::int64_t offset, std::span<const float> values) {
  writer_.write(name, offset, values);
  written_.insert(name);
  for (const auto& [copy, of] : copies_) {
    if (of == name) write(copy, offset, values);
  }
}

void TrainedModel::copy_the_rest() {
  for (const SafetensorsFile& file : directory_.weight_files()) {
    for (const SafetensorsTensor& tensor : file.tensors()) {
      if (written_.count(tensor.name) == 0) writer_.copy_tensor(tensor.name);
    }
  }
}

}  // namespace autoglm
