#include "checkpoint/model_writer.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/directory_listing.h"
#include "checkpoint/file.h"
#include "checkpoint/json_text.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBuffer = std::size_t{4} << 20;

SafetensorsDType saved_dtype(const SafetensorsDType& dtype, std::optional<DType> save_dtype) {
  const bool floating = dtype.dtype && is_floating(*dtype.dtype);
  return save_dtype && floating ? safetensors_dtype(*save_dtype) : dtype;
}

// The header with which a weight file is written: its own, to the byte, when no dtype changes.
SafetensorsHeader saved_header(const SafetensorsHeader& header, std::optional<DType> save_dtype) {
  std::vector<SafetensorsSpec> specs;
  bool same = true;
  for (const SafetensorsTensor& tensor : header.tensors) {
    const SafetensorsDType dtype = saved_dtype(tensor.dtype, save_dtype);
    same = same && dtype == tensor.dtype;
    specs.push_back({tensor.name, dtype, tensor.shape});
  }
  if (same) return header;
  auto metadata = header.metadata;
  metadata.emplace("format", "pt");  // older releases of transformers refuse a file without it
  return make_safetensors_header(specs, metadata);
}

std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float16:
      return "float16";
    default:
      AUTOGLM_CHECK(false, "save dtype {}", dtype_name(dtype));
  }
  return {};
}

void replace_value(std::string& text, std::initializer_list<std::string_view> path,
                   const std::string& value) {
  if (const auto range = locate_json_value(text, path)) {
    text.replace(range->begin, range->end - range->begin, value);
  }
}

std::string saved_config(const JsonFile& config, std::optional<DType> save_dtype) {
  std::string text = config.text;
  if (save_dtype) {
    const std::string value = fmt::format("\"{}\"", torch_name(*save_dtype));
    replace_value(text, {"dtype"}, value);
    replace_value(text, {"torch_dtype"}, value);
  }
  return text;
}

std::string saved_index(const ModelDirectory& source, std::optional<DType> save_dtype) {
  std::string text = source.index()->text;
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  for (const SafetensorsFile& file : source.weight_files()) {
    before += file.header().data_bytes;
    after += saved_header(file.header(), save_dtype).data_bytes;
  }
  if (before != after) replace_value(text, {"metadata", "total_size"}, std::to_string(after));
  return text;
}

}  // namespace

std::uint64_t ModelWriter::bytes_needed(const ModelDirectory& source, std::optional<DType> save_dtype) {
  std::uint64_t bytes = saved_config(source.config(), save_dtype).size();
  if (source.index()) bytes += saved_index(source, save_dtype).size();
  for (const SafetensorsFile& file : source.weight_files()) {
    bytes += saved_header(file.header(), save_dtype).file_bytes();
  }
  for (const OtherFile& file : source.other_files()) bytes += file.bytes;
  return bytes;
}

ModelWriter::ModelWriter(const ModelDirectory& source, fs::path output, std::optional<DType> save_dtype)
    : source_(source),
      // Without the slash at its end, so that it is met when walking up from a file.
      output_(output.has_filename() ? std::move(output) : output.parent_path()),
      save_dtype_(save_dtype) {
  if (save_dtype_) torch_name(*save_dtype_);
  aside_ = output_ / (std::string(kModelAsidePrefix) + random_name());
  std::error_code error;
  if (!fs::create_directory(aside_, error)) {
    fail(ExitCode::cannot_create, "{}: cannot be created: {}", aside_.string(), error.message());
  }
  try {
    create_weight_files();
  } catch (...) {
    files_.clear();
    fs::remove_all(aside_, error);
    throw;
  }
}

ModelWriter::~ModelWriter() {
  if (publishing_) return;
  files_.clear();
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

void ModelWriter::create_weight_files() {
  for (const SafetensorsFile& file : source_.weight_files()) {
    files_.push_back(std::make_unique<SafetensorsWriter>(aside_ / file.path().filename(),
                                                         saved_header(file.header(), save_dtype_)));
  }
}

ModelWriter::Target ModelWriter::find(std::string_view name) const {
  const ModelDirectory::Place place = source_.find(name);
  AUTOGLM_CHECK(place.tensor != nullptr, "tensor {}", name);
  SafetensorsWriter& file = *files_[place.file];
  // Both headers list the tensors in the same order.
  const auto position = place.tensor - source_.weight_files()[place.file].tensors().data();
  return {&file, &file.header().tensors[static_cast<std::size_t>(position)]};
}

SafetensorsDType ModelWriter::stored_dtype(std::string_view name) const {
  return find(name).tensor->dtype;
}

void ModelWriter::write(std::string_view name, std::int64_t element_offset, std::span<const float> values) {
  const Target target = find(name);
  const auto dtype = target.tensor->dtype.dtype;
  AUTOGLM_CHECK(dtype && is_floating(*dtype), "tensor {} is {}", name, target.tensor->dtype.name);
  const std::size_t width = dtype_size(*dtype);
  const std::uint64_t start = static_cast<std::uint64_t>(element_offset) * width;
  if (*dtype == DType::float32) {
    target.file->write(*target.tensor, start, std::as_bytes(values));
    return;
  }
  const std::size_t step = kBuffer / width;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(values.size(), step) * width);
  for (std::size_t i = 0; i < values.size(); i += step) {
    const std::span<const float> part = values.subspan(i, std::min(step, values.size() - i));
    const std::span<std::byte> stored(buffer.get(), part.size() * width);
    convert_from_float(part, *dtype, stored);
    out_of_range_ += count_out_of_range(part, *dtype);
    target.file->write(*target.tensor, start + i * width, stored);
  }
}

void ModelWriter::write(std::string_view name, std::int64_t element_offset, DType dtype,
                        std::span<const std::byte> values) {
  const Target target = find(name);
  const std::size_t width = dtype_size(dtype);
  AUTOGLM_CHECK(values.size() % width == 0, "{} bytes of {}", values.size(), dtype_name(dtype));
  if (target.tensor->dtype.dtype == dtype) {
    target.file->write(*target.tensor, static_cast<std::uint64_t>(element_offset) * width, values);
    return;
  }
  const std::size_t count = values.size() / width;
  const std::size_t step = kBuffer / sizeof(float) / 2;
  const auto buffer = std::make_unique_for_overwrite<float[]>(std::min(count, step));
  for (std::size_t i = 0; i < count; i += step) {
    const std::span<float> part(buffer.get(), std::min(step, count - i));
    convert_to_float(dtype, values.subspan(i * width, part.size() * width), part);
    write(name, element_offset + static_cast<std::int64_t>(i), part);
  }
}

void ModelWriter::copy_tensor(std::string_view name) {
  const Target target = find(name);
  const SafetensorsTensor& from = *source_.find(name).tensor;
  const bool same = from.dtype == target.tensor->dtype;
  // A whole number of elements of every type that may be converted.
  const std::uint64_t step = kBuffer;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(from.bytes, step));
  for (std::uint64_t offset = 0; offset < from.bytes; offset += step) {
    const std::span<std::byte> part(buffer.get(), std::min(step, from.bytes - offset));
    source_.read_tensor_raw(name, offset, part);
    if (same) {
      target.file->write(*target.tensor, offset, part);
    } else {
      write(name, static_cast<std::int64_t>(offset / dtype_size(*from.dtype.dtype)), *from.dtype.dtype, part);
    }
  }
}

void ModelWriter::write_other_files() {
  std::set<fs::path> folders = {aside_};
  for (const OtherFile& file : source_.other_files()) {
    const fs::path target = aside_ / file.name;
    std::error_code error;
    fs::create_directories(target.parent_path(), error);
    if (error) fail(ExitCode::cannot_create, "{}: cannot be created: {}", target.string(), error.message());
    for (fs::path folder = target.parent_path(); folder != aside_; folder = folder.parent_path()) {
      folders.insert(folder);
    }
    copy_file_durably(source_.path() / file.name, target);
  }
  if (source_.index()) write_new_file(aside_ / kIndexName, saved_index(source_, save_dtype_));
  write_new_file(aside_ / kConfigName, saved_config(source_.config(), save_dtype_));
  for (const fs::path& folder : folders) sync_directory(folder);
}

void ModelWriter::publish() {
  std::set<fs::path> folders = {output_};
  const auto sync_folders = [&] {
    for (const fs::path& folder : folders) sync_directory(folder);
  };
  std::error_code error;
  fs::remove(output_ / kConfigName, error);  // from here on the folder is no model, until the last rename
  if (error) fail(ExitCode::io_failed, "{}: {}", (output_ / kConfigName).string(), error.message());
  for (const std::string& name : source_.file_names()) {
    if (name == kConfigName) sync_folders();
    const fs::path target = output_ / name;
    fs::create_directories(target.parent_path(), error);
    for (fs::path folder = target.parent_path(); folder != output_; folder = folder.parent_path()) {
      folders.insert(folder);
    }
    fs::rename(aside_ / name, target, error);
    if (error) fail(ExitCode::io_failed, "{}: cannot be put there: {}", target.string(), error.message());
  }
  sync_directory(output_);
}

void ModelWriter::commit() {
  for (const auto& file : files_) file->finish();
  write_other_files();
  publishing_ = true;
  try {
    publish();
  } catch (const Error& error) {
    fail(error.code(), "{}; nothing is lost: the trained model's files are in {} and, the others, in {}",
         error.what(), output_.string(), aside_.string());
  }
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

}  // namespace autoglm
