#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm::ops {

using cuda::run;

void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x}, {y, rstd});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), write_pointer<T>(y),
                                write_pointer<float>(rstd), x.size(1), static_cast<float>(epsilon)},
        x.size(0), x);
  });
}

void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x, rstd}, {y});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<float>(rstd),
                              write_pointer<T>(y), x.size(1)},
        x.size(0), x);
  });
}

void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight) {
  if (dweight.defined()) add_column_sums_cuda(WorkKind::norms, dy, x, rstd, dweight);
  if (!computes(x)) return count_kernel(WorkKind::norms, {dy, x, rstd}, {dx});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight),
                                 read_pointer<float>(rstd), write_pointer<T>(dx), x.size(1)},
        x.size(0), x);
  });
}

void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x}, {y, statistics});
  const std::int64_t rows = x.size(0);
  auto* means = write_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias),
                                  write_pointer<T>(y), means, means + rows, x.size(1),
                                  static_cast<float>(epsilon)},
        rows, x);
  });
}

void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x, statistics}, {y});
  const std::int64_t rows = x.size(0);
  const auto* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias), means,
                                means + rows, write_pointer<T>(y), x.size(1)},
        rows, x);
  });
}

void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const GradientBuffer& dweight,
                              const GradientBuffer& dbias) {
  if (dweight.defined()) add_column_sums_cuda(WorkKind::norms, dy, x, statistics, dweight);
  if (dbias.defined()) add_column_sums_cuda(WorkKind::norms, dy, {}, {}, dbias);
  if (!computes(x)) return count_kernel(WorkKind::norms, {dy, x, statistics}, {dx});
  const std::int64_t rows = x.size(0);
  const auto* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight), means,
                                   means + rows, write_pointer<T>(dx), x.size(1)},
        rows, x);
  });
}

}  // namespace autoglm::ops
