// CRC32C (Castagnoli; RFC 3720, appendix B.4) of files, a sum for every 16 MiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace autoglm {

// Bytes of a file that one sum covers; the last one covers what is left.
constexpr std::uint64_t kChecksumBytes = std::uint64_t{16} << 20;

// The CRC32C of bytes that follow others, whose sum is `before`.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

// Takes a file's bytes in order.
class ChecksumSeries {
 public:
  void add(std::span<const std::byte> bytes);

  // Sums of everything so far.
  std::vector<std::uint32_t> finish() const;
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::vector<std::uint32_t> done_;
  std::uint32_t current_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace autoglm
