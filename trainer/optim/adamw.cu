// The optimizer's kernels: a thread takes kAdamWRun elements where all that belongs to them is aligned, else one; and a
// sum whose order does not depend on the device.
#include <cuda_runtime.h>

#include <type_traits>

#include "base/math.h"
#include "trainer/optim/adamw_cuda.h"

namespace autoglm {
namespace {

constexpr int kThreads = 256;

// Calls each<kAdamWRun>(i) or each<1>(i) for what falls to this thread, as threads_for() counts them.
template <typename Each>
__device__ void take_elements(std::int64_t count, bool runs, Each each) {
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (runs) {
    const std::int64_t whole = count / kAdamWRun;
    if (i < whole) return each(std::integral_constant<int, kAdamWRun>(), i * kAdamWRun);
    i += whole * kAdamWRun - whole;
  }
  if (i < count) each(std::integral_constant<int, 1>(), i);
}

std::int64_t threads_for(std::int64_t count, bool runs) {
  return runs ? count / kAdamWRun + count % kAdamWRun : count;
}

__global__ void adamw_kernel(AdamWSlice slice, AdamWUpdate update, bool runs) {
  take_elements(slice.count, runs, [&](auto constant, std::int64_t i) {
    adamw_slice_elements<decltype(constant)::value>(slice, update, i);
  });
}

__global__ void accumulate_kernel(const float* values, void* sum, bool bf16, std::int64_t count, bool first,
                                  bool runs) {
  take_elements(count, runs, [&](auto constant, std::int64_t i) {
    constexpr int kCount = decltype(constant)::value;
    auto added = load_run<kCount, float>(values, i);
    if (!first) {
      const auto before = load_floats<kCount>(sum, bf16, i);
      for (int k = 0; k < kCount; ++k) added.elements[k] = before.elements[k] + added.elements[k];
    }
    if (!bf16) return store_run(sum, i, added);
    AdamWRun<std::uint16_t, kCount> rounded;
    for (int k = 0; k < kCount; ++k) rounded.elements[k] = round_bf16(added.elements[k]);
    store_run(sum, i, rounded);
  });
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

unsigned blocks_for(std::int64_t threads) {
  return static_cast<unsigned>(divide_up(threads, kThreads));
}

}  // namespace

void adamw_cuda(const AdamWSlice& slice, const AdamWUpdate& update, void* stream) {
  if (slice.count == 0) return;
  const bool runs = hold_adamw_runs(slice);
  adamw_kernel<<<blocks_for(threads_for(slice.count, runs)), kThreads, 0,
                 static_cast<cudaStream_t>(stream)>>>(slice, update, runs);
}

void accumulate_cuda(const float* values, void* sum, bool bf16, std::int64_t count, bool first,
                     void* stream) {
  if (count == 0) return;
  AdamWSlice both;
  both.gradient = values;
  both.moment1 = sum;
  both.bf16_moments = bf16;
  const bool runs = hold_adamw_runs(both);
  accumulate_kernel<<<blocks_for(threads_for(count, runs)), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      values, sum, bf16, count, first, runs);
}

void squares_cuda(const void* values, bool bf16, std::int64_t count, std::int64_t piece, double* sums,
                  void* stream) {
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(divide_up(count, piece));
  squares_kernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(values, bf16, count, piece,
                                                                             sums);
}

}  // namespace autoglm
