// The arithmetic of products, for which ThreadSanitizer would take minutes: it is told what they touch instead.
#include <algorithm>
#include <vector>

#include "tests/cuda_on_host/blas/product.h"
#include "tests/cuda_on_host/runtime/bf16.h"

namespace cuda_on_host {
namespace {

float load(const void* data, std::int64_t i, cudaDataType type) {
  if (type == CUDA_R_32F) return static_cast<const float*>(data)[i];
  return widen(static_cast<const std::uint16_t*>(data)[i]);
}

void store(void* data, std::int64_t i, cudaDataType type, float value) {
  if (type == CUDA_R_32F) {
    static_cast<float*>(data)[i] = value;
  } else {
    static_cast<std::uint16_t*>(data)[i] = narrow(value);
  }
}

// Column j of the result.
void multiply_column(const Product& p, std::int64_t which, std::int64_t j, const std::vector<float>& left,
                     std::vector<float>& sum) {
  std::fill(sum.begin(), sum.end(), 0.0f);
  for (std::int64_t l = 0; l < p.k; ++l) {
    const std::int64_t place = p.transpose_b ? j + l * p.b.leading : l + j * p.b.leading;
    const float factor = load(p.b.data, which * p.b.stride + place, p.b.type);
    const float* const column = left.data() + l * p.m;
    for (std::int64_t i = 0; i < p.m; ++i) sum[i] += factor * column[i];
  }
  for (std::int64_t i = 0; i < p.m; ++i) {
    float value = p.alpha * sum[i];
    if (p.beta != 0) value += p.beta * load(p.c.data, which * p.c.stride + i + j * p.c.leading, p.c.type);
    if (p.bias != nullptr) value += load(p.bias, i, p.bias_type);
    store(const_cast<void*>(p.d.data), which * p.d.stride + i + j * p.d.leading, p.d.type, value);
  }
}

}  // namespace

void multiply(const Product& p) {
  std::vector<float> left(static_cast<std::size_t>(p.m * p.k)), sum(static_cast<std::size_t>(p.m));
  for (std::int64_t which = 0; which < p.batch; ++which) {
    for (std::int64_t l = 0; l < p.k; ++l) {
      for (std::int64_t i = 0; i < p.m; ++i) {
        const std::int64_t place = p.transpose_a ? l + i * p.a.leading : i + l * p.a.leading;
        left[l * p.m + i] = load(p.a.data, which * p.a.stride + place, p.a.type);
      }
    }
    for (std::int64_t j = 0; j < p.n; ++j) multiply_column(p, which, j, left, sum);
  }
}

}  // namespace cuda_on_host
