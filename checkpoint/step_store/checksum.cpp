#include "checkpoint/step_store/checksum.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace autoglm {

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  constexpr std::size_t kLargest = std::size_t{1} << 30;
  std::uint32_t state = ~before;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kLargest));
    // The function takes a pointer to what it may change, and changes nothing.
    auto* const data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data()));
    state = crc32_iscsi(data, static_cast<int>(part.size()), state);
    bytes = bytes.subspan(part.size());
  }
  return ~state;
}

void ChecksumSeries::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::uint64_t room = kChecksumBytes - bytes_ % kChecksumBytes;
    const auto part = bytes.first(std::min<std::uint64_t>(bytes.size(), room));
    current_ = crc32c(part, current_);
    bytes_ += part.size();
    bytes = bytes.subspan(part.size());
    if (bytes_ % kChecksumBytes == 0) {
      done_.push_back(current_);
      current_ = 0;
    }
  }
}

std::vector<std::uint32_t> ChecksumSeries::finish() const {
  std::vector<std::uint32_t> sums = done_;
  if (bytes_ % kChecksumBytes != 0) sums.push_back(current_);
  return sums;
}

}  // namespace autoglm
