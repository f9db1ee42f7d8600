// The memory of this process's job: that of the device it computes on, and the host's beside it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "sharding/memory/arena.h"
#include "sharding/memory/locked_mapping.h"

namespace autoglm {

// Two pools, of which the CPU's tensors also take: by the calling thread's pool from the host's, or from the
// CPU's own, which is the device's until use_device().
class JobMemory {
 public:
  JobMemory(std::unique_ptr<Arena> cpu, std::unique_ptr<Arena> host);

  Arena& device() { return device_ ? *device_ : *cpu_; }
  Arena& host() { return *host_; }
  Arena& cpu() { return *cpu_; }

  // From now on the job computes on another device, whose memory is `arena`; once.
  void use_device(std::unique_ptr<Arena> arena);

  MemoryStatistics statistics() { return {device().statistics(), host().statistics()}; }
  void reset_peak();

  // Gives what is free back to the system: on the host all of it, on a device what lies above all that is in use.
  void trim();

 private:
  std::unique_ptr<Arena> cpu_, host_, device_;
};

// Installs the job's memory as LibTorch's CPU allocator, with a limit in bytes for the device's pool (absent:
// the machine's memory). Call before the first tensor that should be counted; a second call only changes the
// limit. With `locked`, for a rank that computes on another device, that is the host's pool: an allocation that
// the system refuses to lock throws OutOfMemory.
void install_job_memory(std::optional<std::int64_t> limit = std::nullopt,
                        std::unique_ptr<LockedMapping> locked = nullptr);

// What was installed, for as long as the process lives.
JobMemory& job_memory();

}  // namespace autoglm
