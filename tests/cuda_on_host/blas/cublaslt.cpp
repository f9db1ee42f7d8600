// The part of cuBLASLt that LibTorch calls for a product with a bias.
#include <cublasLt.h>

#include <cstring>
#include <string>

#include "tests/cuda_on_host/blas/product.h"
#include "tests/cuda_on_host/runtime/interface.h"

using namespace cuda_on_host;

namespace {

struct Description {
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int bias_type = -1;  // the result's
};

struct Layout {
  cudaDataType type = CUDA_R_32F;
  std::int64_t rows = 0, columns = 0, leading = 0, stride = 0;
  std::int32_t batch = 1;
};

Description& description(cublasLtMatmulDesc_t handle) {
  return *reinterpret_cast<Description*>(handle);
}
Layout& layout(cublasLtMatrixLayout_t handle) {
  return *reinterpret_cast<Layout*>(handle);
}
Operand operand(const void* data, const Layout& layout) {
  return {data, layout.type, layout.leading, layout.stride};
}

template <typename T>
bool read(T& value, const void* from, std::size_t bytes) {
  if (bytes != sizeof value) return false;
  std::memcpy(&value, from, sizeof value);
  return true;
}

cublasStatus_t refuse(const std::string& what) {
  cuda_on_host_refuse(what.c_str());
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t taken(bool well) {
  return well ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // namespace

extern "C" {

std::size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* handle, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  const bool fp32 =
      (compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32) && scale == CUDA_R_32F;
  if (!fp32) return refuse("a product that is not summed in fp32");
  *handle = reinterpret_cast<cublasLtMatmulDesc_t>(new Description);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
  delete &description(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              std::size_t bytes) {
  Description& one = description(handle);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return taken(read(one.transpose_a, value, bytes));
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return taken(read(one.transpose_b, value, bytes));
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return taken(read(one.epilogue, value, bytes));
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return taken(read(one.bias, value, bytes));
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return taken(read(one.bias_type, value, bytes));
    default:
      return refuse("cublasLtMatmulDesc's attribute " + std::to_string(attribute));
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* handle, cudaDataType_t type,
                                          std::uint64_t rows, std::uint64_t columns, std::int64_t leading) {
  auto* const one = new Layout;
  one->type = type;
  one->rows = static_cast<std::int64_t>(rows), one->columns = static_cast<std::int64_t>(columns);
  one->leading = leading;
  *handle = reinterpret_cast<cublasLtMatrixLayout_t>(one);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
  delete &layout(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return taken(read(layout(handle).batch, value, bytes));
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return taken(read(layout(handle).stride, value, bytes));
    default:
      return refuse("cublasLtMatrixLayout's attribute " + std::to_string(attribute));
  }
}

// Preferences choose among algorithms, of which there is one.
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* handle) {
  *handle = reinterpret_cast<cublasLtMatmulPreference_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t, const void*,
                                                    std::size_t) {
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  if (most < 1) return CUBLAS_STATUS_INVALID_VALUE;
  *results = {};
  results->state = CUBLAS_STATUS_SUCCESS;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t handle, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t*, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const Description& one = description(handle);
  const bool biased = one.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (!biased && one.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return refuse("this epilogue of cublasLtMatmul");
  if (workspace_bytes > 0 && !cuda_on_host_covers(workspace, workspace_bytes, cuda_on_host_card(stream))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Layout& result = layout(d_layout);
  Product product;
  product.transpose_a = one.transpose_a != CUBLAS_OP_N;
  product.transpose_b = one.transpose_b != CUBLAS_OP_N;
  product.m = result.rows, product.n = result.columns;
  product.k = product.transpose_a ? layout(a_layout).rows : layout(a_layout).columns;
  product.alpha = *static_cast<const float*>(alpha), product.beta = *static_cast<const float*>(beta);
  product.a = operand(a, layout(a_layout)), product.b = operand(b, layout(b_layout));
  product.c = operand(c, layout(c_layout)), product.d = operand(d, result);
  product.batch = result.batch;
  if (biased) product.bias = one.bias;
  product.bias_type = one.bias_type < 0 ? result.type : static_cast<cudaDataType>(one.bias_type);
  const Queued queued = queue_product("cublasLtMatmul", product, stream);
  if (queued == Queued::yes) return CUBLAS_STATUS_SUCCESS;
  if (queued == Queued::no_memory) return CUBLAS_STATUS_ALLOC_FAILED;
  return queued == Queued::unknown_type ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_INVALID_VALUE;
}

}  // extern "C"
