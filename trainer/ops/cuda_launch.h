// Runs the kernels of cuda_kernels.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "base/error.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/ops/cuda_kernels.h"
#include "trainer/ops/target.h"

namespace autoglm::ops::cuda {

// Launches `blocks` blocks on `stream`, a cudaStream_t; returns null, or what CUDA says is wrong. Without
// CUDA in the build it throws Error(unavailable).
template <typename Kernel>
const char* launch(const Kernel& kernel, std::int64_t blocks, void* stream);

// The current CUDA stream of the device of this thread, a cudaStream_t. Throws as launch() does.
void* current_stream();

// Of the device of this thread. Without CUDA in the build it throws Error(unavailable).
int current_multiprocessors();

// Runs the kernel where `where` lives: on its device's current stream, or here and now for host memory.
template <typename Kernel>
void run(const Kernel& kernel, std::int64_t blocks, const at::Tensor& where) {
  if (blocks == 0) return;
  if (where.is_cuda()) {
    const char* problem = launch(kernel, blocks, current_stream());
    if (problem != nullptr)
      fail(exit_code_of_device(problem), "a CUDA kernel could not be started: {}", problem);
    return;
  }
  for (std::int64_t block = 0; block < blocks; ++block) kernel(SerialGroup{}, block);
}

}  // namespace autoglm::ops::cuda
