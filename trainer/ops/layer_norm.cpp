#include "trainer/ops/layer_norm.h"

#include "trainer/ops/target.h"

namespace autoglm::ops {

// Rows a thread takes at least, so that small norms stay on one.
constexpr std::int64_t kLayerNormGrain = 16;

void layer_norm_forward_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                            double epsilon, at::Tensor& y, at::Tensor& statistics) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  float* means = write_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(rows, kLayerNormGrain, [&](std::int64_t row) {
      kernels.layer_norm(read_pointer<T>(x) + row * n, read_pointer<T>(weight), read_pointer<T>(bias),
                         write_pointer<T>(y) + row * n, n, static_cast<float>(epsilon), means + row,
                         means + rows + row);
    });
  });
}

void layer_norm_again_cpu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& statistics, at::Tensor& y) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  const float* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(rows, kLayerNormGrain, [&](std::int64_t row) {
      kernels.layer_norm_again(read_pointer<T>(x) + row * n, read_pointer<T>(weight), read_pointer<T>(bias),
                               write_pointer<T>(y) + row * n, n, means[row], means[rows + row]);
    });
  });
}

void layer_norm_backward_cpu(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& statistics, at::Tensor& dx, const GradientBuffer& dweight,
                             const GradientBuffer& dbias) {
  if (!computes(x)) return;
  const std::int64_t rows = x.size(0), n = x.size(1);
  float* weight_sums = dweight.defined() ? write_pointer<float>(dweight.to_add_to()) : nullptr;
  float* bias_sums = dbias.defined() ? write_pointer<float>(dbias.to_add_to()) : nullptr;
  // The parameters' gradients sum over rows: one thread takes them in order when they are wanted.
  const bool sums = weight_sums != nullptr || bias_sums != nullptr;
  const float* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(rows, sums ? rows : kLayerNormGrain, [&](std::int64_t row) {
      kernels.layer_norm_backward(read_pointer<T>(x) + row * n, read_pointer<T>(weight),
                                  read_pointer<T>(dy) + row * n, means[row], means[rows + row],
                                  write_pointer<T>(dx) + row * n, weight_sums, bias_sums, n);
    });
  });
}

}  // namespace autoglm::ops
