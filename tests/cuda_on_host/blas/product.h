// Matrix products on the host: column-major, summed in fp32, queued on a stream.
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstdint>

namespace cuda_on_host {

struct Operand {
  const void* data = nullptr;
  cudaDataType type = CUDA_R_32F;
  std::int64_t leading = 0, stride = 0;  // between columns, and between products of a batch
};

// d = alpha * op(a) * op(b) + beta * c + bias, where op(a) is m x k and op(b) is k x n.
struct Product {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  float alpha = 1, beta = 0;
  Operand a, b, c, d;
  const void* bias = nullptr;  // m values
  cudaDataType bias_type = CUDA_R_32F;
  std::int64_t batch = 1;
};

// On the calling thread. The operands are where the host sees them.
void multiply(const Product& product);

enum class Queued { yes, unknown_type, outside_of_memory, no_memory, failed };

// Every operand must lie in memory of the stream's card.
Queued queue_product(const char* call, const Product& product, cudaStream_t stream);

}  // namespace cuda_on_host
