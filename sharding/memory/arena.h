// The memory that tensors live in, one arena for the CPU and one that only rehearses.
//
// Both are installed as LibTorch's allocators and share the placement code, so a step rehearsed on the
// meta device places every tensor where the real one will. The CPU arena is one mapping of address space
// whose pages are touched only when used; freed ranges keep their pages for the next tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "sharding/memory/placement.h"

namespace autoglm {

// Thrown when an allocation exceeds the arena's limit: what a GPU would throw.
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

// What arenas report. Bytes are after rounding to the arena's alignment.
struct ArenaStatistics {
  MemoryUse use;                     // now
  MemoryUse peak;                    // at the moment of the largest total since reset_peak()
  std::int64_t extent = 0;           // highest byte used since reset_peak(): what a limit must hold
  std::int64_t limit = 0;            // bytes
  std::int64_t num_allocations = 0;  // since the start
};

// Both pools at once.
struct MemoryStatistics {
  ArenaStatistics device;
  ArenaStatistics host;
};

// Installs the CPU arena as LibTorch's CPU allocator, with a limit in bytes for the device's pool (absent:
// the machine's memory). Call once, before the first tensor that should be counted; a second call only
// changes the limit. Thread-safe.
void install_cpu_arena(std::optional<std::int64_t> limit = std::nullopt);

ArenaStatistics cpu_arena_statistics(MemoryPool pool = MemoryPool::device);
MemoryStatistics cpu_memory_statistics();

// Of both pools.
void reset_cpu_arena_peak();

// Gives the pages of free ranges back to the system: before another phase of the process needs memory of its
// own.
void trim_cpu_arena();

// Makes the n-th allocation of the device's pool from now on fail as if the arena were full, once; 0
// withdraws it. For tests of what happens then.
void fail_cpu_allocation(std::int64_t n);

// Changes the limit of the device's pool; what is in use stays. Throws Error(usage) when `limit` is below 1
// MiB.
void set_cpu_arena_limit(std::int64_t limit);

// While one exists, tensors of the meta device are placed and counted as on a device with `limit` bytes and
// `alignment`, and beside it a host without limit. Not nestable; one at a time per process.
class RehearsalArena {
 public:
  explicit RehearsalArena(std::int64_t limit = std::int64_t{1} << 50, std::int64_t alignment = kCpuAlignment);
  ~RehearsalArena();
  RehearsalArena(const RehearsalArena&) = delete;
  RehearsalArena& operator=(const RehearsalArena&) = delete;

  MemoryStatistics statistics() const;
  void reset_peak();

  static constexpr std::int64_t kCpuAlignment = 64;
};

// Bytes of memory that this process may use: the machine's, or less where a control group limits it.
std::int64_t host_memory_limit();

}  // namespace autoglm
