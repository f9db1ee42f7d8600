#include "checkpoint/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace autoglm {
namespace {

constexpr std::uint64_t kWhole = std::uint64_t{64} << 20;   // files up to this are read from end to end
constexpr std::uint64_t kPiece = std::uint64_t{1} << 20;    // of a file that is
constexpr std::uint64_t kBlock = 16 << 10, kBlocks = 1024;  // of a file that is not
constexpr std::uint64_t kTensorBlock = 4 << 10, kTensorBlocks = 4;

// Two 64-bit states, each word multiplied into both, and folded: for telling files apart, not for security.
class Fingerprint {
 public:
  void add(std::span<const std::byte> bytes) {
    for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, std::min(sizeof word, bytes.size() - i));
      mix(word);
    }
    mix(bytes.size());
  }

  std::string text() const { return fmt::format("{:016x}", first_ ^ (second_ << 1 | second_ >> 63)); }

 private:
  static std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }
  void mix(std::uint64_t word) {
    first_ = fold(first_ ^ word, 0x9E3779B97F4A7C15u) + 1;
    second_ = fold(second_ + word, 0xD6E8FEB86659FD93u) + 1;
  }

  std::uint64_t first_ = 1, second_ = 2;
};

// Adds `bytes` from `offset` on, which `read` fills a buffer with.
template <typename Read>
void add_range(Fingerprint& to, std::uint64_t offset, std::uint64_t bytes, const Read& read) {
  std::vector<std::byte> buffer(std::min(bytes, kPiece));
  for (std::uint64_t done = 0; done < bytes; done += buffer.size()) {
    buffer.resize(std::min<std::uint64_t>(buffer.size(), bytes - done));
    read(offset + done, std::span(buffer));
    to.add(buffer);
  }
}

// The first, the last, and blocks at equal distances between them; everything where these would be most of
// it.
template <typename Read>
void add_blocks(Fingerprint& to, std::uint64_t bytes, std::uint64_t block, std::uint64_t blocks,
                const Read& read) {
  if (bytes <= blocks * block) return add_range(to, 0, bytes, read);
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const auto place = static_cast<unsigned __int128>(bytes - block) * i / (blocks - 1);
    add_range(to, static_cast<std::uint64_t>(place), block, read);
  }
}

std::string describe(std::uint64_t bytes, const Fingerprint& fingerprint) {
  return fmt::format("{} bytes, fingerprint {}", bytes, fingerprint.text());
}

}  // namespace

std::string fingerprint_of(const std::filesystem::path& path) {
  const File file = File::open(path);
  const std::uint64_t bytes = file.size();
  const auto read = [&](std::uint64_t offset, std::span<std::byte> part) { file.read_at(offset, part); };
  Fingerprint fingerprint;
  if (bytes <= kWhole) {
    add_range(fingerprint, 0, bytes, read);
  } else {
    add_blocks(fingerprint, bytes, kBlock, kBlocks, read);
  }
  return describe(bytes, fingerprint);
}

std::string fingerprint_of(const SafetensorsFile& weights) {
  const std::uint64_t bytes = weights.header().file_bytes();
  if (bytes <= kWhole) return fingerprint_of(weights.path());
  Fingerprint fingerprint;
  fingerprint.add(as_bytes(weights.header().text));
  for (const SafetensorsTensor& tensor : weights.tensors()) {
    add_blocks(fingerprint, tensor.bytes, kTensorBlock, kTensorBlocks,
               [&](std::uint64_t offset, std::span<std::byte> part) { weights.read(tensor, offset, part); });
  }
  return describe(bytes, fingerprint);
}

std::string fingerprint_of_config(const ModelDirectory& model) {
  Fingerprint fingerprint;
  fingerprint.add(as_bytes(model.config().json.dump()));
  return fingerprint.text();
}

std::string fingerprint_of_weights(const ModelDirectory& model) {
  Fingerprint fingerprint;
  for (const SafetensorsFile& file : model.weight_files()) fingerprint.add(as_bytes(fingerprint_of(file)));
  return fingerprint.text();
}

}  // namespace autoglm
