// A Hugging Face model directory as input: config.json, the weights' table and values, and the files beside
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/directory_listing.h"
#include "checkpoint/safetensors.h"

namespace autoglm {

inline constexpr std::string_view kConfigName = "config.json";
inline constexpr std::string_view kWeightsName = "model.safetensors";
inline constexpr std::string_view kIndexName = "model.safetensors.index.json";

// A JSON file with the bytes it was read from, so that it can be written back unchanged.
struct JsonFile {
  std::string text;
  nlohmann::json json;  // an object
};

// Reads DIRECTORY/config.json. Throws Error(missing_input) when the directory or the file does not exist,
// Error(bad_data) when it is not a JSON object.
JsonFile read_model_config(const std::filesystem::path& directory);

// A tensor that an architecture calls for.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

// A validated directory with its weight files open for reading. Every function may be called from several
// threads.
class ModelDirectory {
 public:
  // Opens config.json, model.safetensors or the shards that model.safetensors.index.json names (files of this
  // directory), and lists the other files. Reads headers only. When both forms are there, model.safetensors is used, as transformers does. Throws
  // Error(missing_input) when something is not there, Error(bad_data) when it is wrong, or when the weights
  // are in a format that is not read.
  static ModelDirectory open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const JsonFile& config() const { return config_; }

  // The index as it was read; nothing when the weights are one file.
  const std::optional<JsonFile>& index() const { return index_; }

  // In the order of their names.
  const std::vector<SafetensorsFile>& weight_files() const { return weight_files_; }

  // Files that belong to the model and hold no weights (tokenizer, chat template, code, ...), config.json and
  // the index not among them; see directory_listing.h.
  const std::vector<OtherFile>& other_files() const { return other_files_; }

  // Files that do not go along to a trained model.
  const std::vector<SkippedFile>& skipped_files() const { return skipped_files_; }

  // The weight files and their index, relative to the folder.
  std::vector<std::string> weight_file_names() const;

  // These and every file that goes along to a trained model; config.json is last.
  std::vector<std::string> file_names() const;

  struct Place {
    std::size_t file = 0;  // of weight_files()
    const SafetensorsTensor* tensor = nullptr;
  };

  // Null `tensor` when there is none of that name.
  Place find(std::string_view name) const;

  // Elements [element_offset, element_offset + values.size()) of a floating tensor, in row-major order,
  // widened (or, from fp64, rounded) to fp32. Uses at most 4 MiB beside `values`. The tensor must exist and
  // hold the range. Throws Error(bad_data) when it is not floating, Error(io_failed).
  void read_tensor(std::string_view name, std::int64_t element_offset, std::span<float> values) const;

  // The tensor's bytes as stored, from `byte_offset` on. Throws Error(io_failed).
  void read_tensor_raw(std::string_view name, std::uint64_t byte_offset, std::span<std::byte> bytes) const;

  // Whether two floating tensors have the same shape and values, whatever their dtypes. Both must exist.
  bool same_values(std::string_view left, std::string_view right) const;

  // Asserts that the files hold exactly the `expected` tensors, each floating, of its shape, and where the
  // index places it if that names it. A tensor that is not expected but whose name matches one of `ignored`
  // ("*rotary_emb.*"; '*', '?' and [...] as in a shell) is let pass, and so is what the index says of others.
  // Throws Error(bad_data) that says how many tensors are missing, surplus or misshapen, names the first, and
  // names their file; or that a wrapper's prefix stands before all names.
  void check_tensors(std::span<const ExpectedTensor> expected,
                     std::span<const std::string> ignored = {}) const;

 private:
  ModelDirectory(std::filesystem::path path, JsonFile config);
  void open_shards();
  void index_tensors();
  void check_places(std::span<const ExpectedTensor> expected) const;
  [[noreturn]] void fail_missing(std::span<const std::string> names) const;
  const SafetensorsTensor& require(std::string_view name, std::size_t& file) const;

  std::filesystem::path path_;
  JsonFile config_;
  std::optional<JsonFile> index_;
  std::vector<SafetensorsFile> weight_files_;
  std::vector<OtherFile> other_files_;
  std::vector<SkippedFile> skipped_files_;
  std::unordered_map<std::string_view, Place> tensors_;
};

}  // namespace autoglm
