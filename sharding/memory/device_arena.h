// The memory of a device that is not the CPU: the same placement as everywhere, over whatever grows from its
// beginning.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "sharding/memory/arena.h"
#include "sharding/memory/placement.h"

namespace autoglm {

// A range of a device's addresses that is backed by memory from its beginning as far as was asked for.
class GrowingMemory {
 public:
  virtual ~GrowingMemory() = default;

  virtual char* base() const = 0;
  virtual std::int64_t capacity() const = 0;  // bytes of addresses

  // Backs at least the first `bytes` (at most capacity()) with memory; what is backed stays so. False when
  // the device has no more: then as much as before is backed.
  virtual bool extend(std::int64_t bytes) = 0;

  // Bytes that are backed now.
  virtual std::int64_t backed() const = 0;

 protected:
  GrowingMemory() = default;
  GrowingMemory(const GrowingMemory&) = default;
  GrowingMemory& operator=(const GrowingMemory&) = default;
};

// Places allocations in such a range. All members are thread-safe.
class DeviceArena {
 public:
  // `where` names the device in messages ("CUDA device 0"). `limit` bytes may be used, at most the memory's
  // capacity; sizes are rounded up to `alignment`.
  DeviceArena(std::unique_ptr<GrowingMemory> memory, std::int64_t limit, std::int64_t alignment,
              const char* where);

  // `bytes` > 0, under the calling thread's category. Throws OutOfMemory beyond the limit or when the device
  // has no more.
  char* allocate(std::int64_t bytes);
  void release(char* data);

  ArenaStatistics statistics() const;
  void reset_peak();
  void set_limit(std::int64_t limit);

  // As fail_cpu_allocation().
  void fail_allocation(std::int64_t n);

  // Bytes of the device that are taken for good: what its driver counts.
  std::int64_t backed() const;

 private:
  mutable std::mutex mutex_;
  std::unique_ptr<GrowingMemory> memory_;
  Placement placement_;
  std::string where_;
  std::int64_t allocations_to_failure_ = 0;
};

}  // namespace autoglm
