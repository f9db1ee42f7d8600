// Conversion of whole arrays between the float types that files hold and fp32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace autoglm {

// The types with which a weight can be stored: fp64, fp32, bf16, fp16.
constexpr bool is_floating(DType dtype) {
  return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::bfloat16 ||
         dtype == DType::float16;
}

// Exact. Subnormals take no subnormal fp32 on the way, so it also holds where those are flushed to zero.
inline float fp16_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t magnitude = half & 0x7FFF;
  const std::uint32_t normal = (magnitude << 13) + (112U << 23);
  const std::uint32_t special = (magnitude << 13) | 0x7F800000;
  const auto subnormal =
      std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24F);
  const std::uint32_t bits = magnitude >= 0x7C00 ? special : magnitude >= 0x0400 ? normal : subnormal;
  return std::bit_cast<float>(sign | bits);
}

// Rounds to nearest, halves to even; beyond 65504 to infinity; a NaN stays a NaN.
inline std::uint16_t float_to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  const std::uint32_t normal = (magnitude - (112U << 23) + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
  // One unit in the last place of 0.5 is fp16's smallest subnormal, so the addition does the rounding.
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
                                  std::bit_cast<std::uint32_t>(0.5F);
  const std::uint32_t nan = 0x7E00 | ((magnitude >> 13) & 0x01FF);
  const std::uint32_t finite = magnitude < (113U << 23) ? subnormal : normal;
  const std::uint32_t in_range = magnitude < 0x477FF000 ? finite : 0x7C00;  // 65520 is the first to round up
  return static_cast<std::uint16_t>(sign | (magnitude > 0x7F800000 ? nan : in_range));
}

// Converts source.size() / dtype_size(from) elements, which need not be aligned, to fp32 (from fp64: rounded
// to nearest even). `from` must be floating and `destination` have room for exactly as many.
void convert_to_float(DType from, std::span<const std::byte> source, std::span<float> destination);

// Converts fp32 to `to`, rounding to nearest even. `to` must be floating and `destination` have
// source.size() * dtype_size(to) bytes, which need not be aligned.
void convert_from_float(std::span<const float> source, DType to, std::span<std::byte> destination);

// How many finite fp64 elements would become infinite in fp32.
std::int64_t count_beyond_float(std::span<const std::byte> source);

// How many finite values would become infinite in `to`.
std::int64_t count_out_of_range(std::span<const float> source, DType to);

}  // namespace autoglm
