#include "checkpoint/safetensors_header.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/math.h"

namespace autoglm {
namespace {

using nlohmann::json;

constexpr std::array kDTypes = {
    SafetensorsDType{"BOOL", 8, DType::boolean},      SafetensorsDType{"F4", 4, std::nullopt},
    SafetensorsDType{"F6_E2M3", 6, std::nullopt},     SafetensorsDType{"F6_E3M2", 6, std::nullopt},
    SafetensorsDType{"U8", 8, DType::uint8},          SafetensorsDType{"I8", 8, DType::int8},
    SafetensorsDType{"F8_E5M2", 8, std::nullopt},     SafetensorsDType{"F8_E4M3", 8, std::nullopt},
    SafetensorsDType{"F8_E8M0", 8, std::nullopt},     SafetensorsDType{"F8_E4M3FNUZ", 8, std::nullopt},
    SafetensorsDType{"F8_E5M2FNUZ", 8, std::nullopt}, SafetensorsDType{"I16", 16, DType::int16},
    SafetensorsDType{"U16", 16, std::nullopt},        SafetensorsDType{"F16", 16, DType::float16},
    SafetensorsDType{"BF16", 16, DType::bfloat16},    SafetensorsDType{"I32", 32, DType::int32},
    SafetensorsDType{"U32", 32, std::nullopt},        SafetensorsDType{"F32", 32, DType::float32},
    SafetensorsDType{"C64", 64, std::nullopt},        SafetensorsDType{"F64", 64, DType::float64},
    SafetensorsDType{"I64", 64, DType::int64},        SafetensorsDType{"U64", 64, std::nullopt},
};

// Bytes of a tensor; nothing when the product overflows or is no whole number of bytes.
std::optional<std::uint64_t> tensor_bytes(const SafetensorsDType& dtype,
                                          const std::vector<std::int64_t>& shape) {
  std::uint64_t bits = 1;
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(size), &bits)) return std::nullopt;
  }
  if (__builtin_mul_overflow(bits, std::uint64_t{dtype.bits}, &bits) || bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

std::uint64_t whole_number(const json& value, std::string_view source, std::string_view name,
                           std::string_view what) {
  // Every number of the format also has to fit a signed 64-bit integer: shapes and file offsets are such.
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT64_MAX) {
    fail(ExitCode::bad_data, "{}: tensor {}: {} holds something that is not a whole number", source, name,
         what);
  }
  return value.get<std::uint64_t>();
}

const json& member(const json& entry, const char* key, json::value_t type, std::string_view source,
                   std::string_view name) {
  const auto found = entry.find(key);
  if (found == entry.end() || found->type() != type) {
    fail(ExitCode::bad_data, "{}: tensor {}: has no valid \"{}\" in the file's header", source, name, key);
  }
  return *found;
}

SafetensorsTensor parse_tensor(const std::string& name, const json& entry, std::string_view source) {
  if (!entry.is_object())
    fail(ExitCode::bad_data, "{}: tensor {}: its header entry is no object", source, name);
  const auto& dtype =
      member(entry, "dtype", json::value_t::string, source, name).get_ref<const std::string&>();
  const auto found = find_safetensors_dtype(dtype);
  if (!found) fail(ExitCode::bad_data, "{}: tensor {}: has the unknown dtype \"{}\"", source, name, dtype);

  SafetensorsTensor tensor{name, *found, {}, 0, 0};
  for (const json& size : member(entry, "shape", json::value_t::array, source, name)) {
    tensor.shape.push_back(static_cast<std::int64_t>(whole_number(size, source, name, "its shape")));
  }
  const json& offsets = member(entry, "data_offsets", json::value_t::array, source, name);
  if (offsets.size() != 2) {
    fail(ExitCode::bad_data, "{}: tensor {}: \"data_offsets\" holds {} numbers instead of 2", source, name,
         offsets.size());
  }
  tensor.offset = whole_number(offsets[0], source, name, "data_offsets");
  const std::uint64_t end = whole_number(offsets[1], source, name, "data_offsets");
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes || end < tensor.offset || end - tensor.offset != *bytes) {
    fail(ExitCode::bad_data,
         "{}: tensor {}: {} of shape {} does not take the bytes {} to {} that the header gives it", source,
         name, dtype, format_shape(tensor.shape), tensor.offset, end);
  }
  tensor.bytes = *bytes;
  return tensor;
}

void parse_metadata(const json& entry, std::string_view source, SafetensorsHeader& header) {
  const auto is_string = [](const json& value) { return value.is_string(); };
  if (!entry.is_object() || !std::all_of(entry.begin(), entry.end(), is_string)) {
    fail(ExitCode::bad_data, "{}: \"__metadata__\" in the file's header is not a list of texts", source);
  }
  header.metadata = entry.get<std::map<std::string, std::string>>();
}

}  // namespace

std::optional<SafetensorsDType> find_safetensors_dtype(std::string_view name) {
  for (const SafetensorsDType& dtype : kDTypes) {
    if (dtype.name == name) return dtype;
  }
  return std::nullopt;
}

SafetensorsDType safetensors_dtype(DType dtype) {
  const auto* found = std::find_if(kDTypes.begin(), kDTypes.end(),
                                   [dtype](const SafetensorsDType& entry) { return entry.dtype == dtype; });
  AUTOGLM_CHECK(found != kDTypes.end(), "{}", dtype_name(dtype));
  return *found;
}

std::int64_t SafetensorsTensor::num_elements() const {
  std::uint64_t count = 1;  // unsigned: before a size of 0 the product may exceed what a tensor can have
  for (const std::int64_t size : shape) count *= static_cast<std::uint64_t>(size);
  return static_cast<std::int64_t>(count);
}

SafetensorsHeader parse_safetensors_header(std::string text, std::string_view source) {
  if (text.empty() || text.front() != '{') {
    fail(ExitCode::bad_data, "{}: its header is not JSON, so it is not a safetensors file", source);
  }
  const json entries = parse_json(text, fmt::format("{} (header)", source));
  SafetensorsHeader header;
  header.text = std::move(text);
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") {
      parse_metadata(entry, source, header);
    } else {
      header.tensors.push_back(parse_tensor(name, entry, source));
    }
  }
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& left, const auto& right) {
    return std::pair(left.offset, left.bytes) < std::pair(right.offset, right.bytes);
  });
  for (const SafetensorsTensor& tensor : header.tensors) {
    if (tensor.offset != header.data_bytes) {
      fail(ExitCode::bad_data,
           "{}: tensor {}: starts at byte {} of the data, where the one before it ends at {}: {}", source,
           tensor.name, tensor.offset, header.data_bytes,
           tensor.offset < header.data_bytes ? "they overlap" : "there is a hole");
    }
    header.data_bytes += tensor.bytes;
  }
  return header;
}

SafetensorsHeader make_safetensors_header(const std::vector<SafetensorsSpec>& tensors,
                                          const std::map<std::string, std::string>& metadata) {
  SafetensorsHeader header;
  header.metadata = metadata;
  nlohmann::ordered_json entries = nlohmann::ordered_json::object();
  if (!metadata.empty()) entries["__metadata__"] = metadata;
  std::set<std::string_view> names = {"__metadata__"};
  for (const SafetensorsSpec& spec : tensors) {
    const auto bytes = tensor_bytes(spec.dtype, spec.shape);
    AUTOGLM_CHECK(bytes, "tensor {}: {}", spec.name, format_shape(spec.shape));
    AUTOGLM_CHECK(names.insert(spec.name).second, "tensor {} is there twice", spec.name);
    const std::uint64_t end = header.data_bytes + *bytes;
    // push_back, not operator[]: an ordered object looks its keys up one by one.
    entries.get_ref<nlohmann::ordered_json::object_t&>().emplace_back(
        spec.name,
        nlohmann::ordered_json{
            {"dtype", spec.dtype.name}, {"shape", spec.shape}, {"data_offsets", {header.data_bytes, end}}});
    header.tensors.push_back({spec.name, spec.dtype, spec.shape, header.data_bytes, *bytes});
    header.data_bytes = end;
  }
  header.text = entries.dump();
  header.text.resize(round_up(header.text.size(), 8U), ' ');
  AUTOGLM_CHECK(header.text.size() <= kSafetensorsMaxHeader);
  return header;
}

std::string format_shape(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace autoglm
