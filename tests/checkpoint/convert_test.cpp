#include "checkpoint/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "base/bf16.h"
#include "base/error.h"

namespace autoglm {
namespace {

// Value of a 16-bit float with this many mantissa bits, from the definition of the formats.
double value_of(std::uint16_t bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

// Rounds by scaling so that the target's last place is 1; nearbyint halves to even.
std::uint16_t rounded(float value, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const auto infinity = static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits);
  const double magnitude = std::abs(static_cast<double>(value));
  if (std::isinf(value)) return sign | infinity;
  if (magnitude == 0) return sign;
  int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  double steps = std::nearbyint(std::ldexp(magnitude, mantissa_bits - exponent));
  if (steps == std::ldexp(1.0, mantissa_bits + 1)) {
    ++exponent;
    steps /= 2;
  }
  if (exponent > bias) return sign | infinity;
  const bool subnormal = steps < std::ldexp(1.0, mantissa_bits);
  const int stored_exponent = subnormal ? 0 : exponent + bias;
  const int stored_mantissa = static_cast<int>(steps) - (subnormal ? 0 : 1 << mantissa_bits);
  return static_cast<std::uint16_t>(sign | stored_exponent << mantissa_bits | stored_mantissa);
}

TEST(Convert, WidensEveryBf16AndFp16Exactly) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    for (const auto& [value, expected] : {std::pair(fp16_to_float(half), value_of(half, 10)),
                                          std::pair(widen_bf16(half), value_of(half, 7))}) {
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(value)) << bits;
      } else {
        ASSERT_EQ(static_cast<double>(value), expected) << bits;
        ASSERT_EQ(std::signbit(value), std::signbit(expected)) << bits;
      }
    }
  }
}

TEST(Convert, EverySixteenBitValueComesBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if (!std::isnan(fp16_to_float(half))) {
      ASSERT_EQ(float_to_fp16(fp16_to_float(half)), half);
    } else {
      ASSERT_TRUE(std::isnan(fp16_to_float(float_to_fp16(fp16_to_float(half)))));
    }
    if (!std::isnan(widen_bf16(half))) {
      ASSERT_EQ(round_bf16(widen_bf16(half)), half);
    } else {
      ASSERT_TRUE(std::isnan(widen_bf16(round_bf16(widen_bf16(half)))));
    }
  }
}

TEST(Convert, RoundsToNearestHalvesToEven) {
  std::vector<std::uint32_t> patterns;
  // Around every boundary between two neighbours of either format, and anywhere.
  for (std::uint32_t high = 0; high < 65536; ++high) {
    for (const std::uint32_t low : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU})
      patterns.push_back(high << 16 | low);
  }
  for (std::uint32_t high = 0; high < 65536 * 8; ++high) {
    for (const std::uint32_t low : {0x0FFFU, 0x1000U, 0x1001U}) patterns.push_back(high << 13 | low);
  }
  std::mt19937 random(7);
  for (int i = 0; i < 300000; ++i) patterns.push_back(static_cast<std::uint32_t>(random()));
  for (const std::uint32_t pattern : patterns) {
    const auto value = std::bit_cast<float>(pattern);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(widen_bf16(round_bf16(value)))) << pattern;
      ASSERT_EQ(std::signbit(widen_bf16(round_bf16(value))), std::signbit(value)) << pattern;
      ASSERT_TRUE(std::isnan(fp16_to_float(float_to_fp16(value)))) << pattern;
    } else {
      ASSERT_EQ(round_bf16(value), rounded(value, 7)) << value;
      ASSERT_EQ(float_to_fp16(value), rounded(value, 10)) << value;
    }
  }
}

TEST(Convert, ArraysEqualElements) {
  std::mt19937 random(3);
  std::vector<float> values(1003);
  for (float& value : values)
    value = std::ldexp(static_cast<float>(random()) - 2e9F, -30 - int(random() % 20));
  for (const DType dtype : {DType::float64, DType::float32, DType::bfloat16, DType::float16}) {
    const std::size_t width = dtype_size(dtype);
    std::vector<std::byte> stored(values.size() * width + 1);
    const std::span<std::byte> misaligned = std::span(stored).subspan(1);
    convert_from_float(values, dtype, misaligned);
    std::vector<float> back(values.size());
    convert_to_float(dtype, misaligned, back);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float expected = dtype == DType::bfloat16  ? widen_bf16(round_bf16(values[i]))
                             : dtype == DType::float16 ? fp16_to_float(float_to_fp16(values[i]))
                                                       : values[i];
      ASSERT_EQ(back[i], expected) << dtype_name(dtype) << i;
    }
  }
}

TEST(Convert, NarrowsFp64ToNearest) {
  const std::vector<double> values = {1.0 + 0x1p-24, 1.0 + 3 * 0x1p-24, 1e-300, -0.1, 1e300};
  std::vector<float> floats(values.size());
  convert_to_float(DType::float64, std::as_bytes(std::span(values)), floats);
  EXPECT_EQ(floats[0], 1.0F);
  EXPECT_EQ(floats[1], 1.0F + 0x1p-22F);
  EXPECT_EQ(floats[2], 0.0F);
  EXPECT_EQ(floats[3], -0.1F);
  EXPECT_TRUE(std::isinf(floats[4]));
}

TEST(Convert, CountsWhatBecomesInfinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {65519.0F, -65520.0F, 1e30F, infinity, std::nanf(""), 3.4e38F};
  for (const DType dtype : {DType::float16, DType::bfloat16, DType::float32}) {
    std::int64_t count = 0;
    for (const float value : values) {
      std::vector<std::byte> stored(dtype_size(dtype));
      convert_from_float({&value, 1}, dtype, stored);
      float back = 0;
      convert_to_float(dtype, stored, {&back, 1});
      count += std::isfinite(value) && std::isinf(back);
    }
    EXPECT_EQ(count_out_of_range(values, dtype), count) << dtype_name(dtype);
  }
  EXPECT_EQ(count_out_of_range(values, DType::float16), 3);
  EXPECT_EQ(count_out_of_range(values, DType::bfloat16), 1);
}

TEST(Convert, RefusesSizesThatDisagree) {
  std::vector<float> values(3);
  std::vector<std::byte> bytes(5);
  EXPECT_THROW(convert_to_float(DType::bfloat16, bytes, values), Error);
  EXPECT_THROW(convert_from_float(values, DType::bfloat16, bytes), Error);
}

}  // namespace
}  // namespace autoglm
