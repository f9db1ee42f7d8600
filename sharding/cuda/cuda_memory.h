// Memory that the CUDA runtime and driver give: on a device, and page-locked on the host.
#pragma once

#include <cstdint>
#include <memory>

#include "sharding/memory/backing.h"
#include "sharding/memory/locked_mapping.h"

namespace autoglm {

// Memory is mapped in pieces of so many bytes: large enough that 80 GB take a fraction of a second, small
// beside a percent of any plan, and a multiple of every device's granularity of 2 MiB.
inline constexpr std::int64_t kCudaMemoryPiece = std::int64_t{8} << 20;

// `capacity` bytes of addresses of `device`. They are backed in steps as they are needed, through the
// driver's virtual memory; where the device does not offer that, `capacity` bytes are allocated at once.
// Throws Error(unavailable) when the device has neither.
std::unique_ptr<Backing> make_cuda_memory(int device, std::int64_t capacity);

// Its pages are locked with cudaHostRegister, after they were touched from `num_threads` threads: the kernel
// clears pages one after the other otherwise, at a few GB/s.
std::unique_ptr<LockedMapping> make_cuda_locked_mapping(int num_threads);

// What cudaMemGetInfo() says of the calling thread's device.
struct DeviceBytes {
  std::int64_t free = 0;
  std::int64_t total = 0;
};
DeviceBytes cuda_device_bytes();

}  // namespace autoglm
