#include "checkpoint/model_directory.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/convert.h"
#include "checkpoint/model_folder.h"

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
  const std::string plain =
      fmt::format("holds no weights: there is neither {} nor {}", kWeightsName, kIndexName);
  for (const auto& [ending, way_out] :
       {std::pair(".incomplete", "its download did not finish; fetch the model again"),
        std::pair(".safetensors", "fetch or save the model again, with its index"),
        std::pair(".gguf", "weights for llama.cpp are not read; fetch the model as safetensors"),
        std::pair(".pth",
                  "convert these weights to safetensors (transformers has convert_llama_weights_to_hf.py)"),
        std::pair(".pt", "save the model anew with transformers: save_pretrained() writes safetensors"),
        std::pair(".h5", "save the model anew with transformers: save_pretrained() writes safetensors"),
        std::pair(".msgpack",
                  "save the model anew with transformers: save_pretrained() writes safetensors")}) {
    if (const auto name = file_ending_in(path, ending))
      fail(ExitCode::missing_input, "{}: {}, only {}; {}", path.string(), plain, *name, way_out);
  }
  fail(ExitCode::missing_input, "{}: {}; fetch the model again, with its weights", path.string(), plain);
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
  require_model_folder(directory);
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
}

void ModelDirectory::check_places(std::span<const ExpectedTensor> expected) const {
  if (!index_) return;
  const nlohmann::json& map = index_->json["weight_map"];
  for (const ExpectedTensor& want : expected) {
    const auto entry = map.find(want.name);
    if (entry == map.end()) continue;
    const Place place = find(want.name);
    const auto wanted = entry->get<std::string>();
    if (place.tensor == nullptr || weight_files_[place.file].path().filename() != wanted) {
      fail(ExitCode::bad_data, "{}: tensor {}: is not there, where {} places it; fetch the model again",
           (path_ / wanted).string(), want.name, kIndexName);
    }
  }
}

// A prefix before all names is what a wrapper leaves: the tensors are there, but no program finds them.
void ModelDirectory::fail_missing(std::span<const std::string> names) const {
  const std::string weights = (path_ / (index_ ? kIndexName : kWeightsName)).string();
  for (const auto& [tensor, place] : tensors_) {
    if (!tensor.ends_with("." + names.front())) continue;
    const std::string_view prefix = tensor.substr(0, tensor.size() - names.front().size());
    if (!std::ranges::all_of(tensors_, [&](const auto& one) { return one.first.starts_with(prefix); }))
      continue;
    fail(ExitCode::bad_data,
         "{}: the names of all tensors begin with \"{}\", which the wrapper left there around which the "
         "model was saved; "
         "save what the wrapper holds (model.module, model._orig_mod, or an adapter's merge_and_unload()), "
         "or strip \"{}\" "
         "from every name",
         weights, prefix, prefix);
  }
  fail(ExitCode::bad_data, "{}: {} tensor{} that config.json asks for {} missing: {}", weights, names.size(),
       plural(names.size()), names.size() == 1 ? "is" : "are", few_names(names));
}

bool ModelDirectory::same_values(std::string_view left, std::string_view right) const {
  std::size_t left_file = 0, right_file = 0;
  const SafetensorsTensor& one = require(left, left_file);
  if (one.shape != require(right, right_file).shape) return false;
  const std::int64_t count = one.num_elements();
  constexpr std::int64_t kStep = kReadBuffer / sizeof(float);
  std::vector<float> values(static_cast<std::size_t>(std::min(count, kStep))), others(values.size());
  for (std::int64_t i = 0; i < count; i += kStep) {
    const auto size = static_cast<std::size_t>(std::min(kStep, count - i));
    read_tensor(left, i, std::span(values).first(size));
    read_tensor(right, i, std::span(others).first(size));
    if (!std::equal(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(size), others.begin()))
      return false;
  }
  return true;
}

std::vector<std::string> ModelDirectory::weight_file_names() const {
  std::vector<std::string> names;
  for (const SafetensorsFile& file : weight_files_) names.push_back(file.path().filename().string());
  if (index_) names.emplace_back(kIndexName);
  return names;
}

std::vector<std::string> ModelDirectory::file_names() const {
  std::vector<std::string> names = weight_file_names();
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
  check_places(expected);
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
  if (!missing.empty()) fail_missing(missing);
  for (const SafetensorsFile& file : weight_files_) {
    std::vector<std::string> extra;
    for (const SafetensorsTensor& tensor : file.tensors()) {
      if (!names.contains(tensor.name) && !matches_any(tensor.name, ignored)) extra.push_back(tensor.name);
    }
    if (!extra.empty()) {
      fail(ExitCode::bad_data,
           "{}: holds {} tensor{} that config.json has no place for: {}; "
           "correct what config.json says of the model, or take them out of the file",
           file.path().string(), extra.size(), plural(extra.size()), few_names(extra));
    }
  }
}

}  // namespace autoglm
