#include "launcher/job/model_transfer.h"

#include <fnmatch.h>
#include <spdlog/spdlog.h>

#include <exception>
#include <set>

#include "base/error.h"
#include "trainer/models/architecture.h"

namespace autoglm {

ModelConfig model_config_of(const ModelDirectory& directory) {
  ModelConfig config = parse_model_config(directory.config().json, (directory.path() / kConfigName).string());
  choose_tensor_prefix(config,
                       [&](const std::string& name) { return directory.find(name).tensor != nullptr; });
  return config;
}

void check_model_files(const ModelDirectory& directory, const Model& model) {
  std::vector<ExpectedTensor> expected;
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->spec().from_file()) expected.push_back({parameter->name(), parameter->spec().shape});
  }
  std::vector<std::string> ignored = architecture_of(model.config).ignored_tensors;
  for (const TensorCopy& copy : possible_copies(model)) ignored.push_back(copy.name);
  directory.check_tensors(expected, ignored);
}

void freeze_parameters(Model& model, std::span<const std::string> patterns) {
  for (const std::string& pattern : patterns) {
    bool matched = false;
    for (Parameter* parameter : model.parameters()) {
      if (::fnmatch(pattern.c_str(), parameter->name().c_str(), 0) != 0) continue;
      parameter->set_trainable(false);
      matched = true;
    }
    if (!matched) {
      fail(ExitCode::usage, "--freeze \"{}\" matches no parameter; names look like {}", pattern,
           model.layers().front()->parameters().front().name());
    }
  }
  for (const Parameter* parameter : model.parameters()) {
    if (parameter->trainable()) return;
  }
  fail(ExitCode::usage, "--freeze leaves no parameter to train");
}

void load_weights(const ModelDirectory& directory, Engine& engine) {
  engine.state_access().load([&](const std::string& name, std::int64_t offset, std::span<float> values) {
    directory.read_tensor(name, offset, values);
  });
}

std::function<DType(const std::string&)> saved_dtypes(const ModelDirectory& directory,
                                                      std::optional<DType> save_dtype) {
  return [&directory, save_dtype](const std::string& name) {
    if (save_dtype) return *save_dtype;
    return directory.find(name).tensor->dtype.dtype.value_or(DType::float32);
  };
}

namespace {

// Rank 0's side of write_model.
class TrainedModel {
 public:
  TrainedModel(const ModelDirectory& directory, const Model& model, const std::filesystem::path& output,
               std::optional<DType> save_dtype)
      : directory_(directory), writer_(directory, output, save_dtype), copies_(possible_copies(model)) {
    std::erase_if(copies_,
                  [&](const TensorCopy& copy) { return directory.find(copy.name).tensor == nullptr; });
  }

  void write(const std::string& name, std::int64_t offset, std::span<const float> values) {
    writer_.write(name, offset, values);
    written_.insert(name);
    for (const TensorCopy& copy : copies_) {
      if (copy.of == name) write(copy.name, offset, values);
    }
  }

  void commit() {
    for (const SafetensorsFile& file : directory_.weight_files()) {
      for (const SafetensorsTensor& tensor : file.tensors()) {
        if (written_.count(tensor.name) == 0) writer_.copy_tensor(tensor.name);
      }
    }
    writer_.commit();
    if (!directory_.skipped_files().empty())
      spdlog::info("not copied from the model's folder: {}", describe_skipped(directory_.skipped_files()));
    if (writer_.out_of_range() > 0) {
      spdlog::warn(
          "{} values became infinite because fp16 cannot hold them; write with --save-dtype bf16 instead",
          writer_.out_of_range());
    }
  }

 private:
  const ModelDirectory& directory_;
  ModelWriter writer_;
  std::vector<TensorCopy> copies_;
  std::set<std::string> written_;
};

}  // namespace

void write_model(const ModelDirectory& directory, Engine& engine, const std::filesystem::path& output,
                 std::optional<DType> save_dtype, bool writes) {
  std::optional<TrainedModel> model;
  // A rank that cannot write any more goes on taking part, so that the others are not left waiting.
  std::exception_ptr failure;
  const auto attempt = [&](auto action) {
    if (!writes || failure) return;
    try {
      action();
    } catch (...) {
      failure = std::current_exception();
    }
  };
  attempt([&] { model.emplace(directory, engine.model(), output, save_dtype); });
  engine.state_access().export_parameters(
      saved_dtypes(directory, save_dtype),
      [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
        attempt([&] { model->write(name, offset, values); });
      });
  attempt([&] { model->commit(); });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace autoglm
