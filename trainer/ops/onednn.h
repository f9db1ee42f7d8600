// Matrix products of oneDNN, on one thread each.
//
// The library is found at run time (libdnnl.so.3, the version that scripts/requirements.txt pins): a program without it
// multiplies by other routes.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace autoglm::ops {

// A matrix where it lies: element (row, column) of what is multiplied is at row * stride + column, or, transposed, at
// column * stride + row.
struct MatrixLayout {
  DType dtype = DType::float32;  // float32 or bfloat16
  std::int64_t stride = 0;
  bool transposed = false;

  auto operator<=>(const MatrixLayout&) const = default;
};

// C [m, n] = A [m, k] @ B [k, n] + bias [n], or added to what C (fp32) holds. Exact products, fp32 sums over k in an order
// that the shape alone decides, one rounding to C's dtype.
struct ProductShape {
  std::int64_t m = 0, n = 0, k = 0;
  MatrixLayout a, b, c;   // c is not transposed
  bool adds = false;      // to C; without a bias
  bool has_bias = false;  // of A's dtype

  auto operator<=>(const ProductShape&) const = default;
};

// What the library can do here.
struct OneDnn {
  bool present = false;
  bool multiplies_bf16 = false;  // by instructions of the processor
  bool has_avx512 = false;
  std::string version = {};  // "3.2.0"
  std::string problem = {};  // why it is not present
};
const OneDnn& onednn();

// Bytes of scratch space that one call needs. Only where the library is present.
std::size_t onednn_scratch_bytes(const ProductShape& shape);

// Computes on the calling thread. `scratch` holds onednn_scratch_bytes(), aligned to 64. Thread-safe.
void onednn_product(const ProductShape& shape, const void* a, const void* b, const void* bias, void* c,
                    void* scratch);

// C [m, n] = alpha * op(A) @ op(B) + beta * C of fp32 matrices in rows `lda`, `ldb`, `ldc` apart, on the calling thread. The
// library takes what scratch space it needs.
void onednn_sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                  float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                  float* c, std::int64_t ldc);

}  // namespace autoglm::ops
