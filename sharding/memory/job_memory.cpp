#include "sharding/memory/job_memory.h"

#include <atomic>

namespace autoglm {
namespace {

std::atomic<DeviceArena*> device_arena{nullptr};

}  // namespace

void use_device_arena(DeviceArena& arena) {
  device_arena = &arena;
}

MemoryStatistics job_memory_statistics() {
  MemoryStatistics statistics = cpu_memory_statistics();
  if (const DeviceArena* arena = device_arena) statistics.device = arena->statistics();
  return statistics;
}

void reset_job_memory_peak() {
  reset_cpu_arena_peak();
  if (DeviceArena* arena = device_arena) arena->reset_peak();
}

void set_job_memory_limit(std::int64_t limit) {
  check_memory_limit(limit);
  if (DeviceArena* arena = device_arena) {
    arena->set_limit(limit);
  } else {
    set_cpu_arena_limit(limit);
  }
}

void fail_job_allocation(std::int64_t n) {
  if (DeviceArena* arena = device_arena) {
    arena->fail_allocation(n);
  } else {
    fail_cpu_allocation(n);
  }
}

std::int64_t job_device_backed_bytes() {
  if (const DeviceArena* arena = device_arena) return arena->backed();
  return cpu_arena_statistics().extent;
}

}  // namespace autoglm
