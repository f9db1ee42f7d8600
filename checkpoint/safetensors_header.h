// The header of a safetensors file: 8 bytes of length (little endian), then JSON that places every tensor in
// the data that follows. Rules: the format's README and its reference implementation's validation.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace autoglm {

// Longest JSON that a file may have, in bytes; the reference implementation's limit.
constexpr std::uint64_t kSafetensorsMaxHeader = 100'000'000;
constexpr std::uint64_t kSafetensorsLengthBytes = 8;

// An element type of the format. Some have no counterpart in this program: their bytes can be moved, not
// read.
struct SafetensorsDType {
  std::string_view name;       // the format's spelling, for example "BF16"
  unsigned bits = 0;           // of one element; below 8 for packed types
  std::optional<DType> dtype;  // the counterpart

  bool operator==(const SafetensorsDType& other) const { return name == other.name; }
};

// Nothing when the format has no type of that name.
std::optional<SafetensorsDType> find_safetensors_dtype(std::string_view name);

// The format's type for one of ours.
SafetensorsDType safetensors_dtype(DType dtype);

// What a tensor is, without its place.
struct SafetensorsSpec {
  std::string name;
  SafetensorsDType dtype;
  std::vector<std::int64_t> shape;
};

// A tensor and its place in the data.
struct SafetensorsTensor {
  std::string name;
  SafetensorsDType dtype;
  std::vector<std::int64_t> shape;  // row-major; empty for a scalar
  std::uint64_t offset = 0;         // bytes from the start of the data
  std::uint64_t bytes = 0;

  std::int64_t num_elements() const;
};

struct SafetensorsHeader {
  std::string text;                             // the JSON as it stands in the file, padding included
  std::vector<SafetensorsTensor> tensors;       // in the order of their offsets
  std::map<std::string, std::string> metadata;  // "__metadata__"
  std::uint64_t data_bytes = 0;                 // of all tensors together

  // Where the data begin in the file.
  std::uint64_t data_offset() const { return kSafetensorsLengthBytes + text.size(); }
  std::uint64_t file_bytes() const { return data_offset() + data_bytes; }
};

// Parses and validates header JSON: it starts with '{', is strict JSON without duplicate keys, every tensor
// has a known dtype, whole-byte size equal to the checked product of its shape, and the tensors cover the
// data from 0 without hole or overlap. Throws Error(bad_data) that names `source` and the tensor.
SafetensorsHeader parse_safetensors_header(std::string text, std::string_view source);

// The header that places these tensors one after another, in this order, spelled as the reference
// implementation spells it and padded to 8 bytes. Names must differ; sizes must be whole bytes.
SafetensorsHeader make_safetensors_header(const std::vector<SafetensorsSpec>& tensors,
                                          const std::map<std::string, std::string>& metadata = {
                                              {"format", "pt"}});

// "[49152, 576]".
std::string format_shape(const std::vector<std::int64_t>& shape);

}  // namespace autoglm
