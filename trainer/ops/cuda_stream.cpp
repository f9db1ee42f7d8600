// The one file of the ops that needs LibTorch's CUDA headers.
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "trainer/ops/cuda_launch.h"

namespace autoglm::ops::cuda {

void* current_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

int current_multiprocessors() {
  int device = 0, count = 0;
  const bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
  if (!known) fail(ExitCode::unavailable, "the CUDA device does not say how many multiprocessors it has");
  return count;
}

}  // namespace autoglm::ops::cuda
