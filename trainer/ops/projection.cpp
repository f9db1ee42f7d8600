#include "trainer/ops/projection.h"

#include "base/bf16.h"
#include "sharding/memory/category.h"
#include "trainer/ops/products.h"
#include "trainer/ops/projection_cuda.h"
#include "trainer/ops/projection_onednn.h"
#include "trainer/ops/target.h"

// The BLAS inside LibTorch, in its Fortran interface (column-major, everything by address).
extern "C" void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda, const float* b,
                       const int* ldb, const float* beta, float* c, const int* ldc);

namespace autoglm::ops {
namespace {

// Tiles of the widened operands: at most this many rows of x, and this many fp32 elements of a weight or of
// an output, so that the scratch space stays small beside any model.
constexpr std::int64_t kTileRows = 2048;
constexpr std::int64_t kTileElements = std::int64_t{4} << 20;

std::int64_t out_features(const Projection& projection) {
  return projection.weight->spec().shape[0];
}

struct Tiles {
  std::int64_t rows;
  std::int64_t columns;

  Tiles(std::int64_t m, std::int64_t k, std::span<const Projection> projections)
      : rows(std::min(m, kTileRows)) {
    std::int64_t widest = 0;
    for (const Projection& projection : projections) widest = std::max(widest, out_features(projection));
    columns = std::min(widest, std::max<std::int64_t>(64, kTileElements / std::max(k, rows)));
  }
};

at::Tensor scratch(std::int64_t elements, const at::Tensor& like) {
  const CategoryScope scope(MemoryCategory::workspace);
  return at::empty({elements}, like.options().dtype(at::kFloat));
}

// Widened copies of the operands of one tile. fp32 operands are used where they are.
class Operands {
 public:
  Operands(const at::Tensor& like, std::int64_t x_elements, std::int64_t w_elements, std::int64_t y_elements)
      : widens_(like.scalar_type() == at::kBFloat16) {
    if (!widens_) return;
    x_ = scratch(x_elements, like);
    w_ = scratch(w_elements, like);
    y_ = scratch(y_elements, like);
  }

  bool widens() const { return widens_; }
  float* x() { return write_pointer<float>(x_); }
  float* w() { return write_pointer<float>(w_); }
  float* y() { return write_pointer<float>(y_); }

 private:
  bool widens_;
  at::Tensor x_, w_, y_;
};

void widen_rows(const simd::bf16_bits* from, std::int64_t from_stride, float* to, std::int64_t rows,
                std::int64_t columns) {
  const auto& kernels = simd::activation_kernels<simd::bf16_bits>();
  for_each_row(rows, std::max<std::int64_t>(1, 32768 / columns), [&](std::int64_t row) {
    kernels.widen(from + row * from_stride, to + row * columns, columns);
  });
}

template <typename T>
void add_bias(float* y, std::int64_t stride, const T* bias, std::int64_t rows, std::int64_t columns) {
  for_each_row(rows, 64, [&](std::int64_t row) {
    if constexpr (std::is_same_v<T, float>) {
      simd::float_kernels().accumulate(bias, y + row * stride, columns);
    } else {
      for (std::int64_t column = 0; column < columns; ++column) {
        y[row * stride + column] += widen_bf16(bias[column]);
      }
    }
  });
}

void project_fp32(const at::Tensor& x, const Projection& projection, at::Tensor& y) {
  const std::int64_t m = x.size(0), k = x.size(1), n = y.size(1);
  float* out = write_pointer<float>(y);
  gemm(false, true, m, n, k, 1, read_pointer<float>(x), k, read_pointer<float>(projection.weight->weight()),
       k, 0, out, n);
  if (projection.bias != nullptr) add_bias(out, n, read_pointer<float>(projection.bias->weight()), m, n);
}

void project_bf16(const at::Tensor& x, std::span<const Projection> projections,
                  std::vector<at::Tensor>& outputs, const Tiles& tiles, Operands& operands) {
  using T = simd::bf16_bits;
  const std::int64_t m = x.size(0), k = x.size(1);
  const auto& kernels = simd::activation_kernels<T>();
  for (std::int64_t row = 0; row < m; row += tiles.rows) {
    const std::int64_t rows = std::min(tiles.rows, m - row);
    widen_rows(read_pointer<T>(x) + row * k, k, operands.x(), rows, k);
    for (std::size_t i = 0; i < projections.size(); ++i) {
      const std::int64_t n = outputs[i].size(1);
      const T* weight = read_pointer<T>(projections[i].weight->weight());
      for (std::int64_t column = 0; column < n; column += tiles.columns) {
        const std::int64_t columns = std::min(tiles.columns, n - column);
        widen_rows(weight + column * k, k, operands.w(), columns, k);
        gemm(false, true, rows, columns, k, 1, operands.x(), k, operands.w(), k, 0, operands.y(), columns);
        if (projections[i].bias != nullptr) {
          add_bias(operands.y(), columns, read_pointer<T>(projections[i].bias->weight()) + column, rows,
                   columns);
        }
        T* out = write_pointer<T>(outputs[i]) + row * n + column;
        for_each_row(rows, std::max<std::int64_t>(1, 32768 / columns), [&](std::int64_t r) {
          kernels.narrow(operands.y() + r * columns, out + r * n, columns);
        });
      }
    }
  }
}

// Column sums of dy, row after row, added to the bias gradient.
template <typename T>
void bias_backward(const at::Tensor& dy, Parameter& bias) {
  const std::int64_t m = dy.size(0), n = dy.size(1);
  float* gradient = write_pointer<float>(bias.gradient());
  const T* rows = read_pointer<T>(dy);
  at::parallel_for(0, n, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = 0; row < m; ++row) {
      const T* source = rows + row * n;
      if constexpr (std::is_same_v<T, float>) {
        simd::float_kernels().accumulate(source + begin, gradient + begin, end - begin);
      } else {
        for (std::int64_t column = begin; column < end; ++column) {
          gradient[column] += widen_bf16(source[column]);
        }
      }
    }
  });
}

void backward_fp32(std::span<const at::Tensor> dy, const at::Tensor& x,
                   std::span<const Projection> projections, at::Tensor& dx) {
  const std::int64_t m = x.size(0), k = x.size(1);
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const std::int64_t n = dy[i].size(1);
    const float* gradient = read_pointer<float>(dy[i]);
    if (dx.defined()) {
      gemm(false, false, m, k, n, 1, gradient, n, read_pointer<float>(projections[i].weight->weight()), k,
           i == 0 ? 0.0f : 1.0f, write_pointer<float>(dx), k);
    }
    if (projections[i].weight->trainable()) {
      const GradientBuffer sum = projections[i].weight->take_gradient();
      gemm(true, false, n, k, m, 1, gradient, n, read_pointer<float>(x), k, sum.fresh ? 0.0f : 1.0f,
           write_pointer<float>(sum.values), k);
    }
  }
}

void backward_bf16(std::span<const at::Tensor> dy, const at::Tensor& x,
                   std::span<const Projection> projections, at::Tensor& dx, const at::Tensor& dx32,
                   const Tiles& tiles, Operands& operands) {
  using T = simd::bf16_bits;
  const std::int64_t m = x.size(0), k = x.size(1);
  std::vector<GradientBuffer> sums;
  for (const Projection& projection : projections)
    sums.push_back(projection.weight->take_gradient_if_trainable());
  for (std::int64_t row = 0; row < m; row += tiles.rows) {
    const std::int64_t rows = std::min(tiles.rows, m - row);
    widen_rows(read_pointer<T>(x) + row * k, k, operands.x(), rows, k);
    bool first = true;
    for (std::size_t i = 0; i < projections.size(); ++i) {
      Parameter& weight = *projections[i].weight;
      const std::int64_t n = dy[i].size(1);
      for (std::int64_t column = 0; column < n; column += tiles.columns) {
        const std::int64_t columns = std::min(tiles.columns, n - column);
        widen_rows(read_pointer<T>(dy[i]) + row * n + column, n, operands.y(), rows, columns);
        if (dx.defined()) {
          widen_rows(read_pointer<T>(weight.weight()) + column * k, k, operands.w(), columns, k);
          gemm(false, false, rows, k, columns, 1, operands.y(), columns, operands.w(), k, first ? 0.0f : 1.0f,
               write_pointer<float>(dx32), k);
          first = false;
        }
        if (sums[i].defined()) {
          gemm(true, false, columns, k, rows, 1, operands.y(), columns, operands.x(), k,
               row == 0 && sums[i].fresh ? 0.0f : 1.0f, write_pointer<float>(sums[i].values) + column * k, k);
        }
      }
    }
    if (dx.defined()) {
      const auto& kernels = simd::activation_kernels<T>();
      at::parallel_for(0, rows, std::max<std::int64_t>(1, 32768 / k),
                       [&](std::int64_t begin, std::int64_t end) {
                         kernels.narrow(read_pointer<float>(dx32) + begin * k,
                                        write_pointer<T>(dx) + (row + begin) * k, (end - begin) * k);
                       });
    }
  }
}

std::vector<at::Tensor> project_cpu(const at::Tensor& x, std::span<const Projection> projections) {
  std::vector<at::Tensor> outputs;
  for (const Projection& projection : projections)
    outputs.push_back(at::empty({x.size(0), out_features(projection)}, x.options()));
  if (projects_by_onednn(x)) {
    project_onednn(x, projections, outputs);
    return outputs;
  }
  const std::int64_t m = x.size(0), k = x.size(1);
  const Tiles tiles(m, k, projections);
  Operands operands(x, tiles.rows * k, tiles.columns * k, tiles.rows * tiles.columns);
  if (!computes(x)) return outputs;
  if (operands.widens()) {
    project_bf16(x, projections, outputs, tiles, operands);
  } else {
    for (std::size_t i = 0; i < projections.size(); ++i) project_fp32(x, projections[i], outputs[i]);
  }
  return outputs;
}

void project_backward_widened(std::span<const at::Tensor> dy, const at::Tensor& x,
                              std::span<const Projection> projections, at::Tensor& dx) {
  const std::int64_t m = x.size(0), k = x.size(1);
  const Tiles tiles(m, k, projections);
  Operands operands(x, tiles.rows * k, tiles.columns * k, tiles.rows * tiles.columns);
  const at::Tensor dx32 = operands.widens() && dx.defined() ? scratch(tiles.rows * k, x) : at::Tensor();
  if (!computes(x)) return;
  if (operands.widens()) {
    backward_bf16(dy, x, projections, dx, dx32, tiles, operands);
  } else {
    backward_fp32(dy, x, projections, dx);
  }
}

void project_backward_cpu(std::span<const at::Tensor> dy, const at::Tensor& x,
                          std::span<const Projection> projections, at::Tensor& dx) {
  (projects_by_onednn(x) ? project_backward_onednn : project_backward_widened)(dy, x, projections, dx);
  if (!computes(x)) return;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    Parameter* bias = projections[i].bias;
    if (bias == nullptr || !bias->trainable()) continue;
    with_activation_type(x, [&](auto type) { bias_backward<decltype(type)>(dy[i], *bias); });
  }
}

}  // namespace

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
          std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  if (products() == Products::widened) {
    for_each_product_tile(n, [&](std::int64_t column, std::int64_t columns) {
      onednn_sgemm(transpose_a, transpose_b, m, columns, k, alpha, a, lda,
                   b + column * (transpose_b ? ldb : 1), ldb, beta, c + column, ldc);
    });
    return;
  }
  const auto size = [](std::int64_t value) {
    AUTOGLM_CHECK(value <= std::numeric_limits<int>::max(), "a matrix extent of {}", value);
    return static_cast<int>(value);
  };
  const int rows = size(m), columns = size(n), inner = size(k);
  const int stride_a = size(lda), stride_b = size(ldb), stride_c = size(ldc);
  // A row-major product is the column-major product of the swapped operands.
  sgemm_(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &columns, &rows, &inner, &alpha, b, &stride_b, a,
         &stride_a, &beta, c, &stride_c);
}

std::vector<at::Tensor> project(const at::Tensor& x_MK, std::span<const Projection> projections) {
  const at::Tensor x = x_MK.contiguous();
  return route(x, project_cpu, project_cuda)(x, projections);
}

at::Tensor project_backward(std::span<const at::Tensor> dy, const at::Tensor& x_MK,
                            std::span<const Projection> projections, bool want_dx) {
  const at::Tensor x = x_MK.contiguous();
  at::Tensor dx;
  if (want_dx) dx = at::empty({x.size(0), x.size(1)}, x.options());
  route(x, project_backward_cpu, project_backward_cuda)(dy, x, projections, dx);
  if (!computes(x)) {
    for (const Projection& projection : projections) {
      if (projection.weight->trainable()) projection.weight->gradient();
      if (projection.bias != nullptr && projection.bias->trainable()) projection.bias->gradient();
    }
  }
  return dx;
}

}  // namespace autoglm::ops
