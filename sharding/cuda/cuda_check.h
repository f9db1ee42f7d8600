// Turns a CUDA runtime status into an exception.
#pragma once

#include <cuda_runtime_api.h>

#include "base/error.h"

namespace autoglm {

// Throws Error(unavailable), or Error(does_not_fit) for want of memory, naming the call, unless it succeeded.
inline void check_cuda(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    fail(status == cudaErrorMemoryAllocation ? ExitCode::does_not_fit : ExitCode::unavailable,
         "{} failed: {} ({})", call, cudaGetErrorString(status), cudaGetErrorName(status));
  }
}

}  // namespace autoglm

#define AUTOGLM_CUDA_CHECK(call) ::autoglm::check_cuda((call), #call)
