#include "launcher/job/model_transfer.h"

#include <fnmatch.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>
#include <set>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "sharding/agree.h"
#include "trainer/models/architecture.h"

namespace autoglm {

ModelConfig model_config_of(const ModelDirectory& directory) {
  ModelConfig config = parse_model_config(directory.config().json, (directory.path() / kConfigName).string());
  const auto exists = [&](const std::string& name) { return directory.find(name).tensor != nullptr; };
  choose_tensor_names(config, exists);
  const std::string table = architecture_of(config).embedding(config)->table().name();
  if (!config.tied_embeddings || config.table_under_head_name || !exists(table) || !exists(config.head_name))
    return config;
  if (directory.same_values(table, config.head_name)) return config;
  config.tied_embeddings = false;
  config.remarks.push_back(fmt::format(
      "{}: \"tie_word_embeddings\" is true, but {} differs from {}; it is trained as a matrix of "
      "its own, as transformers 5 takes it, and the output's config.json says false, because other "
      "programs tie the two",
      (directory.path() / kConfigName).string(), config.head_name, table));
  return config;
}

bool has_head_of_its_own(const ModelDirectory& directory, const ModelConfig& config) {
  const std::string path = (directory.path() / kConfigName).string();
  return !config.tied_embeddings && parse_model_config(directory.config().json, path).tied_embeddings;
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

namespace {

// Without an early exit, so that it is computed many values at a time.
bool all_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  bool finite = true;
  for (const float value : values) finite &= (std::bit_cast<std::uint32_t>(value) & kExponent) != kExponent;
  return finite;
}

}  // namespace

std::string load_weights(const ModelDirectory& directory, Engine& engine, std::optional<DType> save_dtype,
                         const WeightReader& trained) {
  const auto saved = saved_dtypes(directory, save_dtype);
  std::vector<std::string> found;
  std::set<std::string> names;
  engine.state_access().load([&](const std::string& name, std::int64_t offset, std::span<float> values) {
    if (trained && trained(name, offset, values)) return;
    directory.read_tensor(name, offset, values);
    const DType dtype = saved(name);
    if (const std::int64_t lost = count_out_of_range(values, dtype); lost > 0) {
      fail(ExitCode::not_finite,
           "tensor {}: at least {} value{} of the model would become infinite in {}; write with another "
           "--save-dtype",
           name, lost, lost == 1 ? "" : "s", dtype_name(dtype));
    }
    if (all_finite(values) || !names.insert(name).second) return;
    const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
    const auto place = directory.find(name);
    found.push_back(fmt::format("{} of {} (value {} is {})", name,
                                directory.weight_files()[place.file].path().string(),
                                offset + (bad - values.begin()), *bad));
  });
  return found.empty() ? "" : few_names(found);
}

std::function<DType(const std::string&)> saved_dtypes(const ModelDirectory& directory,
                                                      std::optional<DType> save_dtype) {
  return [&directory, save_dtype](const std::string& name) {
    if (save_dtype) return *save_dtype;
    return directory.find(name).tensor->dtype.dtype.value_or(DType::float32);
  };
}

TensorCopies copies_in(const ModelDirectory& directory, const Model& model) {
  TensorCopies copies;
  for (const TensorCopy& copy : possible_copies(model))
    if (directory.find(copy.name).tensor != nullptr) copies.emplace(copy.name, copy.of);
  return copies;
}

std::optional<DType> narrowest_saved(const Model& model,
                                     const std::function<DType(const std::string&)>& saved,
                                     Precision precision) {
  std::optional<DType> narrowest;
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->trainable() || !parameter->spec().from_file()) continue;
    const DType dtype = saved(parameter->name());
    const bool rounds = dtype == DType::float16 || (dtype == DType::bfloat16 && precision == Precision::fp32);
    if (rounds && narrowest != DType::bfloat16) narrowest = dtype;
  }
  return narrowest;
}

namespace {

// Returns on rank 0 what went wrong there. A rank that cannot write any more goes on taking part, so that the
// others are not left waiting.
std::exception_ptr write_once(const ModelDirectory& directory, Engine& engine, ModelTarget* target,
                              std::optional<DType> save_dtype) {
  const TensorCopies copies = copies_in(directory, engine.model());
  std::optional<TrainedModel> model;
  std::exception_ptr failure;
  const auto attempt = [&](auto action) {
    if (target == nullptr || failure) return;
    try {
      action();
    } catch (...) {
      failure = std::current_exception();
    }
  };
  attempt([&] { model.emplace(directory, copies, target->writer()); });
  engine.state_access().export_parameters(
      saved_dtypes(directory, save_dtype),
      [&](const std::string& name, std::int64_t offset, std::span<const float> values) {
        attempt([&] { model->write(name, offset, values); });
      });
  attempt([&] {
    model->copy_the_rest();
    target->commit();
  });
  return failure;
}

}  // namespace

void write_model(const ModelDirectory& directory, Engine& engine, ModelTarget* target,
                 std::optional<DType> save_dtype, Communicator& ranks) {
  for (bool again = true; again;) {
    std::exception_ptr failure = write_once(directory, engine, target, save_dtype);
    again = false;
    if (failure) {
      try {
        again = target->recover(std::exchange(failure, nullptr));
      } catch (...) {
        failure = std::current_exception();
      }
    }
    again = most(ranks, again ? 1 : 0) != 0;
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace autoglm
