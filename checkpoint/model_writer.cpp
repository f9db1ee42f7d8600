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

std::string saved_config(const SideFiles& side_files, std::optional<DType> save_dtype) {
  std::string text = side_files.text(kConfigName).value_or("");
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

std::uint64_t ModelWriter::bytes_needed(const ModelDirectory& source, const SideFiles& side_files,
                                        std::optional<DType> save_dtype) {
  std::uint64_t bytes = side_files.bytes() + saved_config(side_files, save_dtype).size() -
                        side_files.text(kConfigName).value_or("").size();
  if (source.index()) bytes += saved_index(source, save_dtype).size();
  for (const SafetensorsFile& file : source.weight_files()) {
    bytes += saved_header(file.header(), save_dtype).file_bytes();
  }
  return bytes;
}

ModelWriter::ModelWriter(const ModelDirectory& source, const SideFiles& side_files, fs::path output,
                         std::optional<DType> save_dtype)
    : source_(source),
      side_files_(side_files),
      // Without the slash at its end, so that it is met when walking up from a file.
      output_(output.has_filename() ? std::move(output) : output.parent_path()),
      save_dtype_(save_dtype) {
  if (save_dtype_) torch_name(*save_dtype_);
  aside_ = output_ / (std::string(kModelAsidePrefix) + random_name());
  std::error_code error;
  if (!fs::create_directory(aside_, error))
    fail_system(ExitCode::cannot_create, aside_, "cannot be created", error.value());
  try {
    create_weight_files();
  } catch (...) {
    files_.clear();
    fs::remove_all(aside_, error);
    throw;
  }
}

ModelWriter::~ModelWriter() {
  if (publishing_ || kept_) return;
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
    check_range(*target.tensor, count_out_of_range(part, *dtype), *dtype);
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
    const std::span<const std::byte> given = values.subspan(i * width, part.size() * width);
    convert_to_float(dtype, given, part);
    if (dtype == DType::float64)
      check_range(*target.tensor, count_beyond_float(given), *target.tensor->dtype.dtype);
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
  if (source_.index()) write_new_file(aside_ / kIndexName, saved_index(source_, save_dtype_));
  side_files_.write(aside_);
  if (save_dtype_) replace_file(aside_ / kConfigName, saved_config(side_files_, save_dtype_));
}

void ModelWriter::publish(const std::function<void()>& make_way) {
  std::set<fs::path> folders = {output_};
  const auto sync_folders = [&] {
    for (const fs::path& folder : folders) sync_directory(folder);
  };
  std::error_code error;
  if (name_exists(aside_ / kConfigName)) {
    fs::remove(output_ / kConfigName, error);  // from here on the folder is no model, until the last rename
    if (error) fail(ExitCode::io_failed, "{}: {}", (output_ / kConfigName).string(), error.message());
  }
  if (make_way) make_way();
  std::vector<std::string> names = source_.weight_file_names();
  for (std::string& name : side_files_.names()) names.push_back(std::move(name));
  for (const std::string& name : names) {
    if (name == kConfigName) sync_folders();
    const fs::path target = output_ / name;
    if (!name_exists(aside_ / name) && name_exists(target)) continue;  // it went there in an earlier attempt
    create_folders(target.parent_path());
    for (fs::path folder = target.parent_path(); folder != output_; folder = folder.parent_path()) {
      folders.insert(folder);
    }
    fs::rename(aside_ / name, target, error);
    if (error) fail_system(ExitCode::io_failed, target, "cannot be put there", error.value());
  }
  sync_directory(output_);
}

void ModelWriter::check_range(const SafetensorsTensor& tensor, std::int64_t num_lost, DType dtype) const {
  if (num_lost == 0) return;
  fail(ExitCode::not_finite,
       "tensor {}: at least {} value{} would become infinite, because {} cannot hold {}; write with "
       "--save-dtype {}",
       tensor.name, num_lost, num_lost == 1 ? "" : "s", dtype_name(dtype), num_lost == 1 ? "it" : "them",
       dtype == DType::float16    ? "bf16 or fp32"
       : dtype == DType::bfloat16 ? "fp32"
                                  : "input");
}

void ModelWriter::complete() {
  if (complete_) return;
  for (const auto& file : files_) file->finish();
  // A folder that was removed meanwhile would be made again for the other files.
  for (const SafetensorsFile& file : source_.weight_files()) {
    const fs::path written = aside_ / file.path().filename();
    if (!name_exists(written))
      fail(ExitCode::io_failed, "{}: was removed while it was written", written.string());
  }
  weights_finished_ = true;
  write_other_files();
  complete_ = true;
}

void ModelWriter::commit(const std::function<void()>& make_way) {
  complete();
  publishing_ = true;
  const auto told = [&](const Error& error) {
    return fmt::format(
        "{}; nothing is lost: the trained model's files are in {} and, the others, in {}; move "
        "these there, config.json last",
        error.what(), output_.string(), aside_.string());
  };
  try {
    publish(make_way);
  } catch (const DiskFull& error) {
    throw DiskFull(error.code(), told(error));
  } catch (const Error& error) {
    throw Error(error.code(), told(error));
  }
  std::error_code ignored;
  fs::remove_all(aside_, ignored);
}

}  // namespace autoglm
