#include "tests/cuda_on_host/blas/product.h"

#include <cstdio>

#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/sanitizer.h"
#include "tests/cuda_on_host/runtime/shortage.h"

namespace cuda_on_host {
namespace {

bool is_known(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16BF;
}

std::int64_t width(cudaDataType type) {
  return type == CUDA_R_32F ? 4 : 2;
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

// Tells the sanitizer of an operand, column by column.
template <typename Touch>
void each_column(const Operand& operand, std::int64_t rows, std::int64_t columns, std::int64_t batch,
                 Touch touch) {
  const std::int64_t bytes = width(operand.type);
  for (std::int64_t which = 0; which < batch; ++which) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const std::int64_t begin = (which * operand.stride + j * operand.leading) * bytes;
      touch(static_cast<char*>(const_cast<void*>(operand.data)) + begin,
            static_cast<std::size_t>(rows * bytes));
    }
  }
}

void tell_what_is_touched(const Product& p) {
  each_column(p.a, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.batch, reads);
  each_column(p.b, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.batch, reads);
  if (p.beta != 0) each_column(p.c, p.m, p.n, p.batch, reads);
  if (p.bias != nullptr) reads(p.bias, static_cast<std::size_t>(p.m * width(p.bias_type)));
  each_column(p.d, p.m, p.n, p.batch, writes);
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
  const auto work = [real] {
    tell_what_is_touched(real);
    multiply(real);
  };
  return submit(stream, work) == cudaSuccess ? Queued::yes : Queued::failed;
}

}  // namespace cuda_on_host
