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

// Locks pages of the host into memory, so that a device can copy to and from them at full speed and in the
// background.
class PageLocker {
 public:
  virtual ~PageLocker() = default;

  // Whole pages, which may not have been touched yet. Returns why not, in the system's words, or nothing.
  virtual std::string lock(void* data, std::int64_t bytes) = 0;

  // What lock() was called with.
  virtual void unlock(void* data, std::int64_t bytes) = 0;

 protected:
  PageLocker() = default;
  PageLocker(const PageLocker&) = default;
  PageLocker& operator=(const PageLocker&) = default;
};

// Installs the CPU arena as LibTorch's CPU allocator, with a limit in bytes for the device's pool (absent:
// the machine's memory). Call once, before the first tensor that should be counted; a second call only
// changes the limit. Thread-safe. With `locker`, for a rank that computes on another device, the host's pool
// is page-locked: an allocation that the system refuses to lock throws OutOfMemory.
void install_cpu_arena(std::optional<std::int64_t> limit = std::nullopt,
                       std::unique_ptr<PageLocker> locker = nullptr);

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

// Throws Error(usage) when `limit` is below 1 MiB.
void check_memory_limit(std::int64_t limit);

// Changes the limit of the device's pool; what is in use stays. Throws as check_memory_limit() does.
void set_cpu_arena_limit(std::int64_t limit);

// While one exists, tensors of the meta device are placed and counted as on a device with `limit` bytes and
// `alignment`, and beside it a host without limit, which rounds to pages beside a CUDA device. Not nestable;
// one at a time per process.
class RehearsalArena {
 public:
  explicit RehearsalArena(std::int64_t limit = std::int64_t{1} << 50, std::int64_t alignment = kCpuAlignment);
  ~RehearsalArena();
  RehearsalArena(const RehearsalArena&) = delete;
  RehearsalArena& operator=(const RehearsalArena&) = delete;

  MemoryStatistics statistics() const;
  void reset_peak();

  static constexpr std::int64_t kCpuAlignment = 64;
  static constexpr std::int64_t kCudaAlignment = 512;     // what LibTorch's own allocator rounds to
  static constexpr std::int64_t kLockedAlignment = 4096;  // of the host's pool beside a CUDA device
};

// Bytes of memory that this process may use: the machine's, or less where a control group limits it.
std::int64_t host_memory_limit();

}  // namespace autoglm
