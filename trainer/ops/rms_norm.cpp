#include "trainer/ops/rms_norm.h"

#include "trainer/ops/target.h"

namespace autoglm::ops {

// Rows a thread takes at least, so that small norms stay on one.
constexpr std::int64_t kRmsNormGrain = 16;

void rms_norm_forward_cpu(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                          at::Tensor& rstd) {
  const std::int64_t n = x.size(1);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(x.size(0), kRmsNormGrain, [&](std::int64_t row) {
      write_pointer<float>(rstd)[row] =
          kernels.rms_norm(read_pointer<T>(x) + row * n, read_pointer<T>(weight),
                           write_pointer<T>(y) + row * n, n, static_cast<float>(epsilon));
    });
  });
}

void rms_norm_again_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                        at::Tensor& y) {
  const std::int64_t n = x.size(1);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(x.size(0), kRmsNormGrain, [&](std::int64_t row) {
      kernels.rms_norm_again(read_pointer<T>(x) + row * n, read_pointer<T>(weight),
                             write_pointer<T>(y) + row * n, n, read_pointer<float>(rstd)[row]);
    });
  });
}

void rms_norm_backward_cpu(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                           const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight) {
  if (!computes(x)) return;
  const std::int64_t rows = x.size(0), n = x.size(1);
  // The weight's gradient sums over rows: one thread takes them in order when it is wanted.
  float* sums = dweight.defined() ? write_pointer<float>(dweight.to_add_to()) : nullptr;
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(rows, sums != nullptr ? rows : kRmsNormGrain, [&](std::int64_t row) {
      kernels.rms_norm_backward(read_pointer<T>(x) + row * n, read_pointer<T>(weight),
                                read_pointer<T>(dy) + row * n, read_pointer<float>(rstd)[row],
                                write_pointer<T>(dx) + row * n, sums, n);
    });
  });
}

}  // namespace autoglm::ops
