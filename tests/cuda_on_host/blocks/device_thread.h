// What device code asks of the thread that it runs as.
#pragma once

#include <cuda_runtime_api.h>

namespace cuda_on_host {

struct DeviceThread {
  uint3 thread, block;
  dim3 block_size, grid_size;
};

const DeviceThread& device_thread();
void block_barrier();

// All 32 threads of a warp take part.
double shuffle_xor(unsigned mask, double value, int distance);

}  // namespace cuda_on_host
