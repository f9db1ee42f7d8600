// Writes a trained model in the layout of the directory that it came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/model_directory.h"
#include "checkpoint/side_files.h"

namespace autoglm {

// The same weight files with the same tensors in the same order, the same index, and the files beside them as
// they were kept. A tensor keeps its stored dtype unless `save_dtype` names another for the floating ones;
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
  // Creates the temporary folder and the weight files in it, with their space reserved, so it may be made
  // long before there is anything to write. `source` and `side_files` must outlive the writer; `output` must
  // exist. `save_dtype` is fp32, bf16 or fp16. Throws Error(cannot_create), Error(io_failed) or DiskFull.
  ModelWriter(const ModelDirectory& source, const SideFiles& side_files, std::filesystem::path output,
              std::optional<DType> save_dtype);

  // Removes the temporary folder, unless commit() has begun to move files.
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // Bytes that the whole model will take.
  static std::uint64_t bytes_needed(const ModelDirectory& source, const SideFiles& side_files,
                                    std::optional<DType> save_dtype);

  // The dtype in which `name`, which must exist, is written.
  SafetensorsDType stored_dtype(std::string_view name) const;

  // Elements [element_offset, element_offset + values.size()) of tensor `name`, in row-major order, rounded
  // to nearest even where the stored dtype is narrower. Every element of every tensor is written once, by one
  // of the three functions. Uses at most 4 MiB beside `values`. Throws Error(not_finite) naming the tensor when
  // the stored dtype cannot hold a finite value, Error(io_failed) or DiskFull.
  void write(std::string_view name, std::int64_t element_offset, std::span<const float> values);

  // The same for values of type `dtype` (floating). They go to the file unchanged when that is the stored
  // dtype, otherwise through fp32.
  void write(std::string_view name, std::int64_t element_offset, DType dtype,
             std::span<const std::byte> values);

  // The whole tensor as it is in the source, converted only where `save_dtype` asks for it: for what training
  // does not touch.
  void copy_tensor(std::string_view name);

  // Asserts that all tensors are whole, writes the other files, and makes everything durable in the temporary
  // folder, which is then a model directory. commit() does it where it was not done. Throws as commit() does.
  void complete();

  // complete(), then moves everything into place; before the first file moves, `make_way` removes what is not to stay beside the new model. Throws
  // Error(io_failed), Error(cannot_create) or DiskFull. Once files are moving it may be called again, and goes
  // on where it failed.
  void commit(const std::function<void()>& make_way = {});

  // Whether commit() has begun to move files: all of the model is durable in one of the two folders.
  bool publishing() const { return publishing_; }

  // Whether the weight files are whole and durable, which commit() sees to first.
  bool has_all_weights() const { return weights_finished_; }

  // Leaves the temporary folder where it is when the writer goes.
  void keep() { kept_ = true; }

  // Where everything is written first.
  const std::filesystem::path& aside() const { return aside_; }

 private:
  struct Target {
    SafetensorsWriter* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;  // of file->header()
  };
  Target find(std::string_view name) const;
  void create_weight_files();
  void check_range(const SafetensorsTensor& tensor, std::int64_t num_lost, DType dtype) const;
  void write_other_files();
  void publish(const std::function<void()>& make_way);

  const ModelDirectory& source_;
  const SideFiles& side_files_;
  std::filesystem::path output_;
  std::filesystem::path aside_;
  std::optional<DType> save_dtype_;
  std::vector<std::unique_ptr<SafetensorsWriter>> files_;  // as source_.weight_files()
  bool weights_finished_ = false;
  bool complete_ = false;
  bool publishing_ = false;
  bool kept_ = false;
};

// Names of temporary folders start with this and end in 32 hexadecimal digits.
inline constexpr std::string_view kModelAsidePrefix = ".model.tmp-";

}  // namespace autoglm
