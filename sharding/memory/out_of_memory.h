// Thrown when an allocation does not fit: what a GPU would throw.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
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
  // A trace of calls may follow, or the arguments of the one that failed.
  const std::string_view line = failure.substr(0, failure.find('\n'));
  const std::string_view sentence = line.substr(0, line.find(" when calling `"));
  for (const char* const words : {"out of memory", "cudaErrorMemoryAllocation", "STATUS_ALLOC_FAILED"}) {
    if (sentence.find(words) != std::string_view::npos) return OutOfMemory(std::string(sentence), 0, {});
  }
  return std::nullopt;
}

// Runs the work, and returns what it throws for want of memory, by its type or in words.
template <typename Work>
std::optional<OutOfMemory> run_within_memory(Work&& work) {
  try {
    std::forward<Work>(work)();
  } catch (const OutOfMemory& error) {
    return error;
  } catch (const std::exception& error) {
    std::optional<OutOfMemory> full = as_out_of_memory(error.what());
    if (!full) throw;
    return full;
  }
  return std::nullopt;
}

// The exit code of such a failure.
inline ExitCode exit_code_of_device(std::string_view failure) {
  return as_out_of_memory(failure) ? ExitCode::does_not_fit : ExitCode::unavailable;
}

}  // namespace autoglm
