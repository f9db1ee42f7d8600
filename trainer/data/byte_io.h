// Plain values as bytes between ranks of one job (same build, same byte order).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace autoglm {

template <typename T>
void write_array(const std::vector<T>& values, std::vector<std::byte>& bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::uint64_t count = values.size();
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof count + count * sizeof(T));
  std::memcpy(bytes.data() + at, &count, sizeof count);
  if (count > 0) std::memcpy(bytes.data() + at + sizeof count, values.data(), count * sizeof(T));
}

// Takes what write_array wrote from the front of `bytes`.
template <typename T>
std::vector<T> read_array(std::span<const std::byte>& bytes) {
  std::uint64_t count = 0;
  AUTOGLM_CHECK(bytes.size() >= sizeof count, "a message from another rank is cut short");
  std::memcpy(&count, bytes.data(), sizeof count);
  bytes = bytes.subspan(sizeof count);
  AUTOGLM_CHECK(count <= bytes.size() / sizeof(T), "a message from another rank is cut short");
  std::vector<T> values(count);
  if (count > 0) std::memcpy(values.data(), bytes.data(), count * sizeof(T));
  bytes = bytes.subspan(count * sizeof(T));
  return values;
}

}  // namespace autoglm
