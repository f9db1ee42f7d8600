#include "checkpoint/model_directory.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/convert.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestConfig = std::uint64_t{16} << 20;
constexpr std::size_t kReadBuffer = std::size_t{4} << 20;

JsonFile read_json_object(const fs::path& path, std::uint64_t max_bytes) {
  JsonFile file;
  file.text = read_text_file(path, max_bytes);
  file.json = parse_json(file.text, path.string());
  if (!file.json.is_object()) fail(ExitCode::bad_data, "{}: is not a JSON object", path.string());
  return file;
}

[[noreturn]] void fail_no_weights(const fs::path& path) {
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (name_exists(path / name)) {
      fail(ExitCode::bad_data,
           "{}: the weights are in PyTorch's pickle format, which can run code and is not read; convert them "
           "once with: python -c \"from transformers import AutoModelForCausalLM as M; "
           "M.from_pretrained('{}', torch_dtype='auto').save_pretrained('{}')\"",
           (path / name).string(), path.string(), path.string());
    }
  }
  fail(ExitCode::missing_input, "{}: holds no weights: there is neither {} nor {}", path.string(),
       kWeightsName, kIndexName);
}

// The shards that the index names. They must be plain names of files in the same folder: an index that was
// fetched from somewhere must not reach for other files of this machine.
std::set<std::string> shard_names(const nlohmann::json& index, const fs::path& source) {
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty()) {
    fail(ExitCode::bad_data, "{}: has no \"weight_map\" that names a file for each tensor", source.string());
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    const bool plain = name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
                       name.find("..") == std::string::npos && name.find('\0') == std::string::npos;
    if (!plain || !name.ends_with(".safetensors") || name.front() == '.') {
      // Dumped, because it may hold anything, also a NUL byte.
      fail(ExitCode::bad_data, "{}: tensor {}: {} is not the plain name of a .safetensors file",
           source.string(), tensor, file.dump());
    }
    names.insert(name);
  }
  return names;
}

const char* plural(std::size_t count) {
  return count == 1 ? "" : "s";
}

bool matches_any(const std::string& name, std::span<const std::string> patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

}  // namespace

JsonFile read_model_config(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (!fs::exists(status)) {
    fail(ExitCode::missing_input, "{}: there is no such model directory{}", directory.string(),
         error && error != std::errc::no_such_file_or_directory ? " (" + error.message() + ")" : "");
  }
  if (!fs::is_directory(status)) {
    fail(ExitCode::missing_input,
         "{}: is not a directory; name the folder that holds config.json and the weights",
         directory.string());
  }
  if (!name_exists(directory / kConfigName)) {
    fail(ExitCode::missing_input, "{}: is not a model directory, for it holds no config.json",
         directory.string());
  }
  return read_json_object(directory / kConfigName, kLargestConfig);
}

ModelDirectory::ModelDirectory(fs::path path, JsonFile config)
    : path_(std::move(path)), config_(std::move(config)) {}

ModelDirectory ModelDirectory::open(const fs::path& path) {
  ModelDirectory model(path, read_model_config(path));
  if (name_exists(path / kWeightsName)) {
    model.weight_files_.push_back(SafetensorsFile::open(path / kWeightsName));
  } else if (name_exists(path / kIndexName)) {
    model.open_shards();
  } else {
    fail_no_weights(path);
  }
  model.index_tensors();

  std::set<std::string> handled = {std::string(kConfigName)};
  for (const SafetensorsFile& file : model.weight_files_) handled.insert(file.path().filename().string());
  if (model.index_) handled.insert(std::string(kIndexName));
  FilesBeside beside = list_files_beside(path, handled);
  model.other_files_ = std::move(beside.copied);
  model.skipped_files_ = std::move(beside.skipped);
  return model;
}

void ModelDirectory::open_shards() {
  const fs::path source = path_ / kIndexName;
  index_ = read_json_object(source, kSafetensorsMaxHeader);
  for (const std::string& name : shard_names(index_->json, source)) {
    if (!name_exists(path_ / name)) {
      fail(ExitCode::missing_input, "{}: is not there, but {} names it; fetch the model again",
           (path_ / name).string(), kIndexName);
    }
    weight_files_.push_back(SafetensorsFile::open(path_ / name));
  }
}

void ModelDirectory::index_tensors() {
  for (std::size_t i = 0; i < weight_files_.size(); ++i) {
    for (const SafetensorsTensor& tensor : weight_files_[i].tensors()) {
      const auto [place, added] = tensors_.try_emplace(tensor.name, Place{i, &tensor});
      if (!added) {
        fail(ExitCode::bad_data, "{}: tensor {}: is also in {}", weight_files_[i].path().string(),
             tensor.name, weight_files_[place->second.file].path().filename().string());
      }
    }
  }
  if (!index_) return;
  const nlohmann::json& map = index_->json["weight_map"];
  for (const auto& [name, file] : map.items()) {
    const Place place = find(name);
    const auto wanted = file.get<std::string>();
    if (place.tensor == nullptr || weight_files_[place.file].path().filename() != wanted) {
      fail(ExitCode::bad_data, "{}: tensor {}: is not there, where {} places it", (path_ / wanted).string(),
           name, kIndexName);
    }
  }
  for (const auto& [name, place] : tensors_) {
    if (!map.contains(std::string(name))) {
      fail(ExitCode::bad_data, "{}: tensor {}: is not listed in {}",
           weight_files_[place.file].path().string(), name, kIndexName);
    }
  }
}

std::vector<std::string> ModelDirectory::file_names() const {
  std::vector<std::string> names;
  for (const SafetensorsFile& file : weight_files_) names.push_back(file.path().filename().string());
  if (index_) names.emplace_back(kIndexName);
  for (const OtherFile& file : other_files_) names.push_back(file.name);
  names.emplace_back(kConfigName);
  return names;
}

ModelDirectory::Place ModelDirectory::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? Place{} : found->second;
}

const SafetensorsTensor& ModelDirectory::require(std::string_view name, std::size_t& file) const {
  const Place place = find(name);
  AUTOGLM_CHECK(place.tensor != nullptr, "tensor {}", name);
  file = place.file;
  return *place.tensor;
}

void ModelDirectory::read_tensor_raw(std::string_view name, std::uint64_t byte_offset,
                                     std::span<std::byte> bytes) const {
  std::size_t file = 0;
  const SafetensorsTensor& tensor = require(name, file);
  weight_files_[file].read(tensor, byte_offset, bytes);
}

void ModelDirectory::read_tensor(std::string_view name, std::int64_t element_offset,
                                 std::span<float> values) const {
  std::size_t file = 0;
  const SafetensorsTensor& tensor = require(name, file);
  if (!tensor.dtype.dtype || !is_floating(*tensor.dtype.dtype)) {
    fail(ExitCode::bad_data, "{}: tensor {}: has dtype {}, where one of F32, BF16, F16 and F64 is needed",
         weight_files_[file].path().string(), name, tensor.dtype.name);
  }
  const DType dtype = *tensor.dtype.dtype;
  const std::size_t width = dtype_size(dtype);
  const std::uint64_t start = static_cast<std::uint64_t>(element_offset) * width;
  if (dtype == DType::float32) {
    weight_files_[file].read(tensor, start, std::as_writable_bytes(values));
    return;
  }
  const std::size_t step = kReadBuffer / width;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(values.size(), step) * width);
  for (std::size_t i = 0; i < values.size(); i += step) {
    const std::span<float> part = values.subspan(i, std::min(step, values.size() - i));
    const std::span<std::byte> stored(buffer.get(), part.size() * width);
    weight_files_[file].read(tensor, start + i * width, stored);
    convert_to_float(dtype, stored, part);
  }
}

void ModelDirectory::check_tensors(std::span<const ExpectedTensor> expected,
                                   std::span<const std::string> ignored) const {
  const std::string weights = (path_ / (index_ ? kIndexName : kWeightsName)).string();
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  std::string misshapen_file;
  std::set<std::string_view> names;
  for (const ExpectedTensor& want : expected) {
    names.insert(want.name);
    const Place place = find(want.name);
    if (place.tensor == nullptr) {
      missing.push_back(want.name);
      continue;
    }
    const SafetensorsTensor& have = *place.tensor;
    const std::string file = weight_files_[place.file].path().string();
    if (have.shape != want.shape) {
      if (misshapen_file.empty()) misshapen_file = file;
      misshapen.push_back(fmt::format("{} is {} instead of {}", want.name, format_shape(have.shape),
                                      format_shape(want.shape)));
    } else if (!have.dtype.dtype || !is_floating(*have.dtype.dtype)) {
      fail(ExitCode::bad_data,
           "{}: tensor {}: has dtype {}, where F32, BF16, F16 or F64 is needed; quantized models cannot be "
           "trained",
           file, want.name, have.dtype.name);
    }
  }
  if (!misshapen.empty()) {
    fail(ExitCode::bad_data, "{}: {} tensor{} of another shape than config.json asks for: {}", misshapen_file,
         misshapen.size(), misshapen.size() == 1 ? " is" : "s are", few_names(misshapen));
  }
  if (!missing.empty()) {
    fail(ExitCode::bad_data, "{}: {} tensor{} that config.json asks for {} missing: {}", weights,
         missing.size(), plural(missing.size()), missing.size() == 1 ? "is" : "are", few_names(missing));
  }
  for (const SafetensorsFile& file : weight_files_) {
    std::vector<std::string> extra;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      if (!names.contains(tensor.name) && !matches_any(tensor.name, ignored)) extra.push_back(tensor.name);
    }
    if (!extra.empty()) {
      fail(ExitCode::bad_data, "{}: holds {} tensor{} that config.json has no place for: {}",
           file.path().string(), extra.size(), plural(extra.size()), few_names(extra));
    }
  }
}

}  // namespace autoglm
