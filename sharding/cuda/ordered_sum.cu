// Device code of the sums of gradients.
#include "sharding/cuda/ordered_sum.h"

#include <cuda_runtime.h>

namespace autoglm {
namespace {

constexpr int kSumThreads = 256;

__global__ void __launch_bounds__(kSumThreads) ordered_sum_kernel(OrderedSum sum, bool wide) {
  sum_of_thread(sum, wide, static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x);
}

}  // namespace

const char* sum_on_device(const OrderedSum& sum, void* stream) {
  const bool wide = is_wide(sum);
  const std::int64_t blocks = (sum_threads(sum, wide) + kSumThreads - 1) / kSumThreads;
  if (blocks == 0) return nullptr;
  if (blocks > 0x7FFFFFFF) return "a grid of more than 2^31 - 1 blocks";
  ordered_sum_kernel<<<static_cast<unsigned>(blocks), kSumThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      sum, wide);
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace autoglm
