// The memory of this process's job: whichever device it computes on, and the host's pool beside it.
#pragma once

#include "sharding/memory/arena.h"
#include "sharding/memory/device_arena.h"

namespace autoglm {

// From now on the device's pool of the job is `arena`, which must live as long as the process. Until then,
// and for jobs on the CPU, it is the CPU arena's.
void use_device_arena(DeviceArena& arena);

// Both pools; the CPU arena must be installed.
MemoryStatistics job_memory_statistics();
void reset_job_memory_peak();

// Changes the limit of the device's pool; what is in use stays. Throws Error(usage) below 1 MiB.
void set_job_memory_limit(std::int64_t limit);

// As fail_cpu_allocation(), in the job's device pool.
void fail_job_allocation(std::int64_t n);

// Bytes that the device has given for its pool for good; on the CPU, the pool's extent.
std::int64_t job_device_backed_bytes();

}  // namespace autoglm
