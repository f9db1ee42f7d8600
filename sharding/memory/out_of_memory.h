// Thrown when an allocation does not fit: what a GPU would throw.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "sharding/memory/statistics.h"

namespace autoglm {

class OutOfMemory : public std::runtime_error {
 public:
  OutOfMemory(const std::string& message, std::int64_t requested, MemoryUse use)
      : std::runtime_error(message), requested_(requested), use_(use) {}
  std::int64_t requested() const { return requested_; }
  const MemoryUse& use() const { return use_; }

 private:
  std::int64_t requested_;
  MemoryUse use_;
};

// The failure of a library for CUDA, which has only words for a want of memory, as what it is: a kernel that could
// not be loaded, a handle that could not be made. None for other failures.
inline std::optional<OutOfMemory> as_out_of_memory(std::string_view failure) {
  const std::string_view sentence = failure.substr(0, failure.find('\n'));  // a trace of calls may follow
  for (const char* const words : {"out of memory", "cudaErrorMemoryAllocation", "STATUS_ALLOC_FAILED"}) {
    if (sentence.find(words) != std::string_view::npos) return OutOfMemory(std::string(sentence), 0, {});
  }
  return std::nullopt;
}

}  // namespace autoglm
