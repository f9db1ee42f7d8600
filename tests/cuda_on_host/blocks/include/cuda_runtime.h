// Stands before the toolkit's header of this name when a .cu file is compiled for the host: every thread of a block is
// a fiber, and what is shared by a block lies in the thread of the host that runs it.
#pragma once

#include <cuda_runtime_api.h>

#include "tests/cuda_on_host/blocks/device_thread.h"

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static thread_local
#define threadIdx (cuda_on_host::device_thread().thread)
#define blockIdx (cuda_on_host::device_thread().block)
#define blockDim (cuda_on_host::device_thread().block_size)
#define gridDim (cuda_on_host::device_thread().grid_size)

inline void __syncthreads() {
  cuda_on_host::block_barrier();
}

inline double __shfl_xor_sync(unsigned mask, double value, int distance) {
  return cuda_on_host::shuffle_xor(mask, value, distance);
}
