// The one file of the ops that needs LibTorch's CUDA headers.
#include <c10/cuda/CUDAStream.h>

#include "trainer/ops/cuda_launch.h"

namespace autoglm::ops::cuda {

void* current_stream() {
  return c10::cuda::getCurrentCUDAStream().stream();
}

}  // namespace autoglm::ops::cuda
