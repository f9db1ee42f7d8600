#include "checkpoint/convert.h"

#include <cmath>
#include <cstring>

#include "base/bf16.h"
#include "base/error.h"

namespace autoglm {
namespace {

// The elements are copied in and out because bytes of a file may be misaligned; compilers turn that into
// unaligned vector loads.
template <typename Stored, typename Function>
void widen(std::span<const std::byte> source, std::span<float> destination, Function convert) {
  for (std::size_t i = 0; i < destination.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, source.data() + i * sizeof(Stored), sizeof(Stored));
    destination[i] = convert(stored);
  }
}

template <typename Stored, typename Function>
void narrow(std::span<const float> source, std::span<std::byte> destination, Function convert) {
  for (std::size_t i = 0; i < source.size(); ++i) {
    const Stored stored = convert(source[i]);
    std::memcpy(destination.data() + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

}  // namespace

void convert_to_float(DType from, std::span<const std::byte> source, std::span<float> destination) {
  AUTOGLM_CHECK(source.size() == destination.size() * dtype_size(from), "{} bytes for {} {} elements",
                source.size(), destination.size(), dtype_name(from));
  switch (from) {
    case DType::float32:
      if (!source.empty()) std::memcpy(destination.data(), source.data(), source.size());
      return;
    case DType::bfloat16:
      return widen<std::uint16_t>(source, destination, [](std::uint16_t bits) { return widen_bf16(bits); });
    case DType::float16:
      return widen<std::uint16_t>(source, destination,
                                  [](std::uint16_t bits) { return fp16_to_float(bits); });
    case DType::float64:
      return widen<double>(source, destination, [](double value) { return static_cast<float>(value); });
    default:
      AUTOGLM_CHECK(is_floating(from), "{}", dtype_name(from));
  }
}

void convert_from_float(std::span<const float> source, DType to, std::span<std::byte> destination) {
  AUTOGLM_CHECK(destination.size() == source.size() * dtype_size(to), "{} bytes for {} {} elements",
                destination.size(), source.size(), dtype_name(to));
  switch (to) {
    case DType::float32:
      if (!source.empty()) std::memcpy(destination.data(), source.data(), destination.size());
      return;
    case DType::bfloat16:
      return narrow<std::uint16_t>(source, destination, [](float value) { return round_bf16(value); });
    case DType::float16:
      return narrow<std::uint16_t>(source, destination, [](float value) { return float_to_fp16(value); });
    case DType::float64:
      return narrow<double>(source, destination, [](float value) { return static_cast<double>(value); });
    default:
      AUTOGLM_CHECK(is_floating(to), "{}", dtype_name(to));
  }
}

std::int64_t count_beyond_float(std::span<const std::byte> source) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i + sizeof(double) <= source.size(); i += sizeof(double)) {
    double value = 0;
    std::memcpy(&value, source.data() + i, sizeof(double));
    count += std::isfinite(value) && !std::isfinite(static_cast<float>(value));
  }
  return count;
}

std::int64_t count_out_of_range(std::span<const float> source, DType to) {
  // The smallest magnitudes that round to infinity.
  const std::uint32_t limit = to == DType::float16    ? 0x477FF000
                              : to == DType::bfloat16 ? 0x7F7F8000
                                                      : 0x7F800000;
  std::int64_t count = 0;
  for (const float value : source) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFF;
    count += magnitude >= limit && magnitude < 0x7F800000;
  }
  return count;
}

}  // namespace autoglm
