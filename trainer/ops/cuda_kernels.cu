// Device code of every kernel: one launcher, and a group that is a block of threads.
#include "trainer/ops/cuda_kernels.h"

#include <cuda_runtime.h>

#include <type_traits>

namespace autoglm::ops::cuda {
namespace {

constexpr int kWarp = 32;

// All threads of a block of kThreads. Sums and maxima reach every thread; the order of additions is fixed.
class BlockGroup {
 public:
  __device__ BlockGroup(double* shared, float* floats, int num_floats)
      : shared_(shared), floats_(floats), num_floats_(num_floats) {}
  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int size() const { return kThreads; }
  __device__ void sync() const { __syncthreads(); }

  __device__ double sum(double value) const {
    return reduce(value, [](double a, double b) { return a + b; });
  }
  __device__ float maximum(float value) const {
    return static_cast<float>(
        reduce(static_cast<double>(value), [](double a, double b) { return a > b ? a : b; }));
  }
  __device__ float* shared_floats(std::int64_t count) const {
    return count <= num_floats_ ? floats_ : nullptr;
  }

 private:
  template <typename Combine>
  __device__ double reduce(double value, Combine combine) const {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
    }
    if (rank() % kWarp == 0) shared_[rank() / kWarp] = value;
    __syncthreads();
    double result = shared_[0];
    for (int warp = 1; warp < kThreads / kWarp; ++warp) result = combine(result, shared_[warp]);
    __syncthreads();
    return result;
  }

  double* shared_;
  float* floats_;
  int num_floats_;
};

template <typename Kernel, typename = void>
constexpr int kSharedFloatsOf = 0;
template <typename Kernel>
constexpr int kSharedFloatsOf<Kernel, std::void_t<decltype(Kernel::kSharedFloats)>> = Kernel::kSharedFloats;

// Where shared memory bounds how many blocks a multiprocessor takes, registers are not to bound them further.
template <typename Kernel>
__global__ void __launch_bounds__(kThreads, kSharedFloatsOf<Kernel> > 0 ? 4 : 1) run_block(Kernel kernel) {
  constexpr int kNumFloats = kSharedFloatsOf<Kernel>;
  __shared__ double shared[kThreads / kWarp];
  __shared__ float floats[kNumFloats > 0 ? kNumFloats : 1];
  kernel(BlockGroup(shared, floats, kNumFloats), static_cast<std::int64_t>(blockIdx.x));
}

}  // namespace

template <typename Kernel>
const char* launch(const Kernel& kernel, std::int64_t blocks, void* stream) {
  if (blocks > 0x7FFFFFFF) return "a grid of more than 2^31 - 1 blocks";
  run_block<<<static_cast<unsigned>(blocks), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  const cudaError_t status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

#define AUTOGLM_INSTANTIATE(...) template const char* launch(const __VA_ARGS__&, std::int64_t, void*);
AUTOGLM_EACH_CUDA_KERNEL(AUTOGLM_INSTANTIATE)

}  // namespace autoglm::ops::cuda
