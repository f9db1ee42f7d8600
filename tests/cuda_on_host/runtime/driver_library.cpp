// libcuda.so.1, of which LibTorch asks whether this process has a context on a card, and which is the thread's.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

extern "C" {

bool cuda_on_host_has_context(int card);

CUresult cuDevicePrimaryCtxGetState(CUdevice card, unsigned* flags, int* active) {
  *flags = 0;
  *active = cuda_on_host_has_context(card) ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  int card = 0;
  cudaGetDevice(&card);
  *context = cuda_on_host_has_context(card) ? reinterpret_cast<CUcontext>(std::uintptr_t{1} + card) : nullptr;
  return CUDA_SUCCESS;
}

}  // extern "C"
