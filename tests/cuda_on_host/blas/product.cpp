#include "tests/cuda_on_host/blas/product.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "tests/cuda_on_host/runtime/bf16.h"
#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/shortage.h"

namespace cuda_on_host {
namespace {

bool is_known(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16BF;
}

std::int64_t width(cudaDataType type) {
  return type == CUDA_R_32F ? 4 : 2;
}

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

std::int64_t extent(const Operand& operand, std::int64_t rows, std::int64_t columns, std::int64_t batch) {
  return ((batch - 1) * operand.stride + (columns - 1) * operand.leading + rows) * width(operand.type);
}

// All of the operands, the first one that is not there by name.
const char* find_missing(const Product& p, int card) {
  const auto lies = [&](const Operand& operand, std::int64_t rows, std::int64_t columns) {
    return operand.leading >= rows &&
           cuda_on_host_covers(operand.data,
                               static_cast<std::size_t>(extent(operand, rows, columns, p.batch)), card);
  };
  if (!(p.transpose_a ? lies(p.a, p.k, p.m) : lies(p.a, p.m, p.k))) return "a";
  if (!(p.transpose_b ? lies(p.b, p.n, p.k) : lies(p.b, p.k, p.n))) return "b";
  if (p.beta != 0 && !lies(p.c, p.m, p.n)) return "c";
  if (!lies(p.d, p.m, p.n)) return "d";
  const auto bias_bytes = static_cast<std::size_t>(p.m * width(p.bias_type));
  if (p.bias != nullptr && !cuda_on_host_covers(p.bias, bias_bytes, card)) return "bias";
  return nullptr;
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

}  // namespace

Queued queue_product(const char* call, const Product& product, cudaStream_t stream) {
  const Product& p = product;
  if (cuda_on_host_traces()) {
    std::fprintf(stderr, "cuda_on_host: %s: %ld x %ld x %ld, batch %ld, beta %g%s\n", call, p.m, p.n, p.k,
                 p.batch, static_cast<double>(p.beta), p.bias != nullptr ? ", bias" : "");
  }
  if (!is_known(p.a.type) || !is_known(p.b.type) || !is_known(p.c.type) || !is_known(p.d.type) ||
      !is_known(p.bias_type)) {
    cuda_on_host_refuse("a product of a type of numbers");
    return Queued::unknown_type;
  }
  if (p.m <= 0 || p.n <= 0 || p.k <= 0 || p.batch <= 0) {
    cuda_on_host_refuse("an empty product");
    return Queued::failed;
  }
  if (const char* missing = find_missing(p, cuda_on_host_card(stream))) {
    std::fprintf(stderr, "cuda_on_host: %s: operand %s does not lie in memory of the card\n", call, missing);
    return Queued::outside_of_memory;
  }
  if (cuda_on_host_finds_none(static_cast<int>(Taker::product))) return Queued::no_memory;
  Product real = p;
  for (Operand* operand : {&real.a, &real.b, &real.c, &real.d}) operand->data = view(operand->data);
  if (real.bias != nullptr) real.bias = view(real.bias);
  return submit(stream, [real] { multiply(real); }) == cudaSuccess ? Queued::yes : Queued::failed;
}

}  // namespace cuda_on_host
