// Memory that tensors live in: a placement, and behind it a host, a device or nothing.
//
// All arenas share the placement code, so a step rehearsed on the meta device places every tensor where the
// real one will.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "sharding/memory/backing.h"
#include "sharding/memory/placement.h"
#include "sharding/memory/statistics.h"

namespace autoglm {

// Counts, tags and limits what is allocated. All members are thread-safe.
class Arena {
 public:
  static constexpr std::int64_t kCpuAlignment = 64;
  static constexpr std::int64_t kCudaAlignment = 512;     // what LibTorch's own allocator rounds to
  static constexpr std::int64_t kLockedAlignment = 4096;  // of the host's pool beside a CUDA device

  // `where` names the memory in messages ("CUDA device 0"). `limit` bytes may be used, at most the backing's
  // capacity; sizes are rounded up to `alignment`.
  Arena(std::unique_ptr<Backing> backing, std::int64_t limit, std::int64_t alignment, std::string where);

  // `bytes` > 0, under the calling thread's category. Throws OutOfMemory beyond the limit or when the backing
  // refuses.
  char* allocate(std::int64_t bytes);
  void release(char* data);

  // Whether `data` lies in this arena's addresses.
  bool holds(const char* data) const;

  ArenaStatistics statistics() const;
  void reset_peak();

  // Changes the limit; what is in use stays.
  void set_limit(std::int64_t limit);

  // Makes the n-th allocation from now on fail as if the arena were full, once; 0 withdraws it. For tests of
  // what happens then.
  void fail_allocation(std::int64_t n);

  // Gives the memory of free ranges back to the system: before another phase of the process needs memory of
  // its own.
  void trim();

  // Bytes that are taken from the system until they are trimmed: what a device's driver counts; on the host, the
  // extent.
  std::int64_t backed() const;

 private:
  [[noreturn]] void throw_out_of_memory(std::int64_t bytes, std::string_view reason = {}) const;

  mutable std::mutex mutex_;
  std::unique_ptr<Backing> backing_;
  Placement placement_;
  std::string where_;
  std::int64_t allocations_to_failure_ = 0;
};

}  // namespace autoglm
