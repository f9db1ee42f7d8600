// Arenas that only rehearse: what the real ones would hold, without memory.
#pragma once

#include <cstdint>

#include "sharding/memory/arena.h"

namespace autoglm {

// While one exists, tensors of the meta device are placed and counted as on a device with `limit` bytes (at
// most 2^50) and `alignment`, and beside it a host without limit, which rounds to pages beside a CUDA device.
// Not nestable; one at a time per process.
class RehearsalArena {
 public:
  explicit RehearsalArena(std::int64_t limit = std::int64_t{1} << 50,
                          std::int64_t alignment = Arena::kCpuAlignment);
  ~RehearsalArena();
  RehearsalArena(const RehearsalArena&) = delete;
  RehearsalArena& operator=(const RehearsalArena&) = delete;

  Arena& device() { return device_; }
  Arena& host() { return host_; }

  MemoryStatistics statistics() const { return {device_.statistics(), host_.statistics()}; }
  void reset_peak();

 private:
  Arena device_, host_;
};

}  // namespace autoglm
