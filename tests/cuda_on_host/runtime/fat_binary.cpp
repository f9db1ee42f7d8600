#include "tests/cuda_on_host/runtime/fat_binary.h"

#include <cstdint>
#include <cstring>
#include <vector>

namespace cuda_on_host {
namespace {

// What __cudaRegisterFatBinary is given, and what it leads to: a header, and entries one after the other. NVIDIA has
// not documented them; these are the parts that are needed, as found in the binaries of CUDA 13.
struct Wrapper {
  std::uint32_t magic, version;
  const char* binary;
};
struct Header {
  std::uint32_t magic;
  std::uint16_t version, header_bytes;
  std::uint64_t bytes;
};
struct Entry {
  std::uint16_t kind, version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;
  std::uint32_t compressed_bytes, address_bytes;
  std::uint16_t minor, major;
  std::uint32_t architecture, name_offset, name_bytes;
  std::uint64_t flags;
};
constexpr std::uint32_t kWrapperMagic = 0x466243B1, kMagic = 0xBA55ED50;
constexpr std::uint16_t kPtx = 1, kMachineCode = 2;
constexpr std::uint64_t kOneArchitecture = 0x100000;  // sm_90a and the like run nowhere else

template <typename T>
T read(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::vector<Entry> entries_of(const void* image) {
  std::vector<Entry> entries;
  if (image == nullptr) return entries;
  const auto wrapper = read<Wrapper>(static_cast<const char*>(image));
  if (wrapper.magic != kWrapperMagic) return entries;
  const auto header = read<Header>(wrapper.binary);
  if (header.magic != kMagic) return entries;
  const char* at = wrapper.binary + header.header_bytes;
  for (const char* const end = at + header.bytes; at < end;) {
    entries.push_back(read<Entry>(at));
    at += entries.back().header_bytes + entries.back().bytes;
  }
  return entries;
}

bool runs(const Entry& entry, int capability) {
  const int compiled = static_cast<int>(entry.architecture);
  if ((entry.flags & kOneArchitecture) != 0) return compiled == capability;
  if (entry.kind == kPtx) return compiled <= capability;
  return entry.kind == kMachineCode && compiled / 10 == capability / 10 && compiled <= capability;
}

}  // namespace

bool has_code_for(const void* image, int capability) {
  for (const Entry& entry : entries_of(image)) {
    if (runs(entry, capability)) return true;
  }
  return false;
}

std::string describe_code(const void* image) {
  std::string text;
  for (const Entry& entry : entries_of(image)) {
    text += (text.empty() ? "" : ", ") + std::string(entry.kind == kPtx ? "compute_" : "sm_") +
            std::to_string(entry.architecture) + ((entry.flags & kOneArchitecture) != 0 ? "a" : "");
  }
  return text.empty() ? "nothing that can be read" : text;
}

}  // namespace cuda_on_host
