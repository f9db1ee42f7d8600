// bf16 of one element: the same functions for files, on the CPU and on CUDA, so that all give the same bits.
// A NaN becomes the quiet one of its sign, however a number would be rounded.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define AUTOGLM_HOST_DEVICE __host__ __device__
#else
#define AUTOGLM_HOST_DEVICE
#endif

namespace autoglm {

AUTOGLM_HOST_DEVICE inline std::uint32_t bits_of_float(float value) {
  std::uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

AUTOGLM_HOST_DEVICE inline float float_of_bits(std::uint32_t bits) {
  float value = 0;
  memcpy(&value, &bits, sizeof value);
  return value;
}

AUTOGLM_HOST_DEVICE inline float widen_bf16(std::uint16_t value) {
  return float_of_bits(static_cast<std::uint32_t>(value) << 16);
}

// The bf16 of a float's `bits`, which are `rounded` in the upper half unless they are a NaN's.
AUTOGLM_HOST_DEVICE inline std::uint16_t bf16_or_nan(std::uint32_t bits, std::uint32_t rounded) {
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return static_cast<std::uint16_t>((is_nan ? (bits & 0x80000000u) | 0x7FC00000u : rounded) >> 16);
}

// To nearest, halves to even: how activations, gradients and files are rounded.
AUTOGLM_HOST_DEVICE inline std::uint16_t round_bf16(float value) {
  const std::uint32_t bits = bits_of_float(value);
  return bf16_or_nan(bits, bits + 0x7FFFu + ((bits >> 16) & 1u));
}

// To nearest, halves away from zero: how master weights become working weights.
AUTOGLM_HOST_DEVICE inline std::uint16_t round_weight(float master) {
  const std::uint32_t bits = bits_of_float(master);
  return bf16_or_nan(bits, bits + 0x8000u);
}

// What round_weight leaves over. Together they are the master's bits, but for NaNs, which stay some NaN.
AUTOGLM_HOST_DEVICE inline std::int16_t weight_remainder(float master) {
  const std::uint32_t bits = bits_of_float(master);
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return static_cast<std::int16_t>(is_nan ? 0u : bits - (((bits + 0x8000u) >> 16) << 16));
}

AUTOGLM_HOST_DEVICE inline float join_weight(std::uint16_t working, std::int16_t remainder) {
  const auto low = static_cast<std::uint32_t>(static_cast<std::int32_t>(remainder));
  return float_of_bits((static_cast<std::uint32_t>(working) << 16) + low);
}

// Spreads 32 bits over 32 bits (Wellons' lowbias32): noise from counters.
AUTOGLM_HOST_DEVICE constexpr std::uint32_t mix_bits(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7FEB352Du;
  x ^= x >> 15;
  x *= 0x846CA68Bu;
  x ^= x >> 16;
  return x;
}

// Up or down at random, so that the expectation is exact; the noise is that of (key, place).
AUTOGLM_HOST_DEVICE inline std::uint16_t round_stochastically(float value, std::uint64_t place,
                                                              std::uint32_t key) {
  const std::uint32_t noise =
      mix_bits(static_cast<std::uint32_t>(place) ^ mix_bits(key + static_cast<std::uint32_t>(place >> 32)));
  const std::uint32_t bits = bits_of_float(value);
  const bool is_finite = (bits & 0x7F800000u) != 0x7F800000u;
  return bf16_or_nan(bits, is_finite ? bits + (noise & 0xFFFFu) : bits);
}

}  // namespace autoglm
