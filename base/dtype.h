// Element types of tensors in files, buffers and messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace autoglm {

enum class DType : std::uint8_t {
  float32,
  bfloat16,
  float16,
  float64,
  int64,
  int32,
  int16,
  int8,
  uint8,
  boolean
};

// Bytes of one element.
constexpr std::size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::float64:
    case DType::int64:
      return 8;
    case DType::float32:
    case DType::int32:
      return 4;
    case DType::bfloat16:
    case DType::float16:
    case DType::int16:
      return 2;
    default:
      return 1;
  }
}

// "fp32", "bf16", "fp16", "fp64", "int64", ...
constexpr std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "fp32";
    case DType::bfloat16:
      return "bf16";
    case DType::float16:
      return "fp16";
    case DType::float64:
      return "fp64";
    case DType::int64:
      return "int64";
    case DType::int32:
      return "int32";
    case DType::int16:
      return "int16";
    case DType::int8:
      return "int8";
    case DType::uint8:
      return "uint8";
    case DType::boolean:
      return "bool";
  }
  return "?";
}

// What a model computes in: its working weights, activations and products. Sums, norms and optimizer states
// are fp32 under both.
enum class Precision { bf16, fp32 };

constexpr DType working_dtype(Precision precision) {
  return precision == Precision::bf16 ? DType::bfloat16 : DType::float32;
}
// Bytes of one working weight.
constexpr std::int64_t working_bytes(Precision precision) {
  return static_cast<std::int64_t>(dtype_size(working_dtype(precision)));
}
// "bf16" or "fp32".
constexpr std::string_view precision_name(Precision precision) {
  return dtype_name(working_dtype(precision));
}

}  // namespace autoglm
