// Device code of the sums of gradients.
#include "sharding/cuda/ordered_sum.h"

#include <cuda_runtime.h>

namespace autoglm {
namespace {

constexpr int kSumThreads = 256;

__device__ std::int64_t number_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
}

__global__ void __launch_bounds__(kSumThreads) ordered_sum_kernel(OrderedSum sum, bool wide) {
  sum_of_thread(sum, wide, number_of_thread());
}

__global__ void __launch_bounds__(kSumThreads)
    round_part_kernel(const float* from, std::uint16_t* to, std::int64_t count, bool wide) {
  round_of_thread(from, to, count, wide, number_of_thread());
}

// Calls launch(blocks) for so many threads.
template <typename Launch>
const char* launch_threads(std::int64_t threads, Launch launch) {
  const std::int64_t blocks = (threads + kSumThreads - 1) / kSumThreads;
  if (blocks == 0) return nullptr;
  if (blocks > 0x7FFFFFFF) return "a grid of more than 2^31 - 1 blocks";
  launch(static_cast<unsigned>(blocks));
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace

const char* sum_on_device(const OrderedSum& sum, void* stream) {
  const bool wide = is_wide(sum);
  return launch_threads(sum_threads(sum, wide), [&](unsigned blocks) {
    ordered_sum_kernel<<<blocks, kSumThreads, 0, static_cast<cudaStream_t>(stream)>>>(sum, wide);
  });
}

const char* round_on_device(const float* from, std::uint16_t* to, std::int64_t count, void* stream) {
  const bool wide = is_wide(from, to);
  return launch_threads(run_threads(count, kRoundedRun, wide), [&](unsigned blocks) {
    round_part_kernel<<<blocks, kSumThreads, 0, static_cast<cudaStream_t>(stream)>>>(from, to, count, wide);
  });
}

}  // namespace autoglm
