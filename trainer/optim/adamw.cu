// The optimizer's kernels: one thread an element, and a sum whose order does not depend on the device.
#include <cuda_runtime.h>

#include "base/math.h"
#include "trainer/optim/adamw_cuda.h"

namespace autoglm {
namespace {

constexpr int kThreads = 256;

__global__ void adamw_kernel(AdamWSlice slice, AdamWUpdate update) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < slice.count) adamw_slice_element(slice, update, i);
}

__global__ void accumulate_kernel(const float* values, void* sum, bool bf16, std::int64_t count, bool first) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  if (bf16) {
    auto* to = static_cast<std::uint16_t*>(sum) + i;
    *to = round_bf16(first ? values[i] : widen_bf16(*to) + values[i]);
  } else {
    auto* to = static_cast<float*>(sum) + i;
    *to = first ? values[i] : *to + values[i];
  }
}

// Block b sums the squares of piece b: threads take every 256th element, then halves are added pairwise.
__global__ void squares_kernel(const void* values, bool bf16, std::int64_t count, std::int64_t piece,
                               double* sums) {
  __shared__ double partial[kThreads];
  const std::int64_t begin = blockIdx.x * piece;
  const std::int64_t end = begin + piece < count ? begin + piece : count;
  double sum = 0;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const double value = bf16 ? widen_bf16(static_cast<const std::uint16_t*>(values)[i])
                              : static_cast<const float*>(values)[i];
    sum += value * value;
  }
  partial[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

}  // namespace

namespace {

unsigned blocks_for(std::int64_t count) {
  return static_cast<unsigned>(divide_up(count, kThreads));
}

}  // namespace

void adamw_cuda(const AdamWSlice& slice, const AdamWUpdate& update, void* stream) {
  if (slice.count == 0) return;
  adamw_kernel<<<blocks_for(slice.count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(slice, update);
}

void accumulate_cuda(const float* values, void* sum, bool bf16, std::int64_t count, bool first,
                     void* stream) {
  if (count == 0) return;
  accumulate_kernel<<<blocks_for(count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(values, sum, bf16,
                                                                                           count, first);
}

void squares_cuda(const void* values, bool bf16, std::int64_t count, std::int64_t piece, double* sums,
                  void* stream) {
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(divide_up(count, piece));
  squares_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(values, bf16, count, piece,
                                                                             sums);
}

}  // namespace autoglm
