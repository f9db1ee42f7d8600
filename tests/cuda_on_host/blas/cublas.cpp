// The part of cuBLAS that LibTorch calls. A handle has a stream, and a workspace which the caller gives.
#include <cublas_v2.h>

#include <cstdio>

#include "tests/cuda_on_host/blas/product.h"
#include "tests/cuda_on_host/runtime/interface.h"

using namespace cuda_on_host;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
};

namespace {

constexpr std::int64_t kHandleBytes = std::int64_t{8} << 20;  // made up; a real one takes some too

cublasStatus_t status_of(Queued queued) {
  switch (queued) {
    case Queued::yes:
      return CUBLAS_STATUS_SUCCESS;
    case Queued::unknown_type:
      return CUBLAS_STATUS_NOT_SUPPORTED;
    case Queued::outside_of_memory:
      return CUBLAS_STATUS_INVALID_VALUE;
    case Queued::no_memory:
      return CUBLAS_STATUS_ALLOC_FAILED;
    default:
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

bool sums_in_fp32(cublasComputeType_t type) {
  return type == CUBLAS_COMPUTE_32F || type == CUBLAS_COMPUTE_32F_PEDANTIC ||
         type == CUBLAS_COMPUTE_32F_FAST_TF32;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  const int card = cuda_on_host_card(nullptr);
  if (!cuda_on_host_charge(card, kHandleBytes)) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete handle;
  cuda_on_host_charge(cuda_on_host_card(nullptr), -kHandleBytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  const int card = cuda_on_host_card(handle->stream);
  if (workspace == nullptr || !cuda_on_host_covers(workspace, bytes, card))
    return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t math) {
  handle->math = math;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* math) {
  *math = handle->math;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t pointers) {
  handle->pointers = pointers;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* pointers) {
  *pointers = handle->pointers;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx(
    cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m, int n, int k,
    const void* alpha, const void* a, cudaDataType a_type, int a_leading, long long a_stride, const void* b,
    cudaDataType b_type, int b_leading, long long b_stride, const void* beta, void* c, cudaDataType c_type,
    int c_leading, long long c_stride, int batch, cublasComputeType_t compute, cublasGemmAlgo_t) {
  if (handle->pointers != CUBLAS_POINTER_MODE_HOST || !sums_in_fp32(compute)) {
    cuda_on_host_refuse("a product that is not summed in fp32, or has its factors on the device");
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  Product product;
  product.transpose_a = transpose_a != CUBLAS_OP_N;
  product.transpose_b = transpose_b != CUBLAS_OP_N;
  product.m = m, product.n = n, product.k = k;
  product.alpha = *static_cast<const float*>(alpha), product.beta = *static_cast<const float*>(beta);
  product.a = {a, a_type, a_leading, a_stride};
  product.b = {b, b_type, b_leading, b_stride};
  product.c = product.d = {c, c_type, c_leading, c_stride};
  product.batch = batch;
  return status_of(queue_product("cublasGemm", product, handle->stream));
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                            cublasOperation_t transpose_b, int m, int n, int k, const void* alpha,
                            const void* a, cudaDataType a_type, int a_leading, const void* b,
                            cudaDataType b_type, int b_leading, const void* beta, void* c,
                            cudaDataType c_type, int c_leading, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type, a_leading, 0,
                                    b, b_type, b_leading, 0, beta, c, c_type, c_leading, 0, 1, compute,
                                    algorithm);
}

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transpose_a,
                                         cublasOperation_t transpose_b, int m, int n, int k,
                                         const float* alpha, const float* a, int a_leading,
                                         long long a_stride, const float* b, int b_leading,
                                         long long b_stride, const float* beta, float* c, int c_leading,
                                         long long c_stride, int batch) {
  return cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a, CUDA_R_32F,
                                    a_leading, a_stride, b, CUDA_R_32F, b_leading, b_stride, beta, c,
                                    CUDA_R_32F, c_leading, c_stride, batch, CUBLAS_COMPUTE_32F,
                                    CUBLAS_GEMM_DEFAULT);
}

cublasStatus_t cublasSgemm_v2(cublasHandle_t handle, cublasOperation_t transpose_a,
                              cublasOperation_t transpose_b, int m, int n, int k, const float* alpha,
                              const float* a, int a_leading, const float* b, int b_leading, const float* beta,
                              float* c, int c_leading) {
  return cublasSgemmStridedBatched(handle, transpose_a, transpose_b, m, n, k, alpha, a, a_leading, 0, b,
                                   b_leading, 0, beta, c, c_leading, 0, 1);
}

}  // extern "C"
