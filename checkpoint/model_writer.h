// Writes a trained model in the layout of the directory that it came from.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/model_directory.h"

namespace autoglm {

// The same weight files with the same tensors in the same order, the same index, and every other file copied
// byte for byte. A tensor keeps its stored dtype unless `save_dtype` names another for the floating ones;
// then the index's total_size and config.json's "dtype" or "torch_dtype" are changed in place and every other
// byte of them stays. A weight file whose tensors keep their dtypes keeps its header byte for byte.
//
// Everything is written and made durable under OUTPUT/.model.tmp-RANDOM. commit() then moves the files into
// OUTPUT one by one, config.json last: whatever happens, a folder with config.json holds a whole model, and a
// program that is killed leaves at most a folder without it, which the next run's OutputDirectory::begin()
// cleans.
//
// The write functions may be called from several threads. A tensor's parts come in any order, so later each
// rank can write its own.
class ModelWriter {
 public:
  // Creates the temporary folder and the weight files in it, with their space reserved. `source` must outlive
  // the writer; `output` must exist. `save_dtype` is fp32, bf16 or fp16. Throws Error(cannot_create), or
  // Error(io_failed), for example when the disk is full.
  ModelWriter(const ModelDirectory& source, std::filesystem::path output, std::optional<DType> save_dtype);

  // Removes the temporary folder, unless commit() has begun to move files.
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // Bytes that the whole model will take.
  static std::uint64_t bytes_needed(const ModelDirectory& source, std::optional<DType> save_dtype);

  // The dtype in which `name`, which must exist, is written.
  SafetensorsDType stored_dtype(std::string_view name) const;

  // Elements [element_offset, element_offset + values.size()) of tensor `name`, in row-major order, rounded
  // to nearest even where the stored dtype is narrower. Every element of every tensor is written once, by one
  // of the three functions. Uses at most 4 MiB beside `values`. Throws Error(io_failed).
  void write(std::string_view name, std::int64_t element_offset, std::span<const float> values);

  // The same for values of type `dtype` (floating). They go to the file unchanged when that is the stored
  // dtype, otherwise through fp32.
  void write(std::string_view name, std::int64_t element_offset, DType dtype,
             std::span<const std::byte> values);

  // The whole tensor as it is in the source, converted only where `save_dtype` asks for it: for what training
  // does not touch.
  void copy_tensor(std::string_view name);

  // Finite values that became infinite because the stored dtype cannot hold them.
  std::int64_t out_of_range() const { return out_of_range_; }

  // Asserts that all tensors are whole, copies the other files, makes everything durable and moves it into
  // place. Throws Error(io_failed), Error(cannot_create), or, when a file of the source is gone,
  // Error(missing_input).
  void commit();

 private:
  struct Target {
    SafetensorsWriter* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;  // of file->header()
  };
  Target find(std::string_view name) const;
  void create_weight_files();
  void write_other_files();
  void publish();

  const ModelDirectory& source_;
  std::filesystem::path output_;
  std::filesystem::path aside_;
  std::optional<DType> save_dtype_;
  std::vector<std::unique_ptr<SafetensorsWriter>> files_;  // as source_.weight_files()
  std::atomic<std::int64_t> out_of_range_ = 0;
  bool publishing_ = false;
};

// Names of temporary folders start with this and end in 32 hexadecimal digits.
inline constexpr std::string_view kModelAsidePrefix = ".model.tmp-";

}  // namespace autoglm
