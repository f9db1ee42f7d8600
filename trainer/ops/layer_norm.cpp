#include "trainer/ops/layer_norm.h"

#include "trainer/ops/elementwise_cuda.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Rows a thread takes at least, so that small norms stay on one.
constexpr std::int64_t kLayerNormGrain = 16;

at::Tensor trainable_gradient(const Parameter& parameter) {
  return parameter.trainable() ? parameter.gradient() : at::Tensor();
}

template <typename T>
void layer_norm_backward_rows(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics,
                              const Norm& norm, at::Tensor& dx) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  const auto& kernels = simd::activation_kernels<T>();
  const at::Tensor dweight = trainable_gradient(*norm.weight), dbias = trainable_gradient(*norm.bias);
  float* weight_sums = dweight.defined() ? write_pointer<float>(dweight) : nullptr;
  float* bias_sums = dbias.defined() ? write_pointer<float>(dbias) : nullptr;
  // The parameters' gradients sum over rows: one thread takes them in order when they are wanted.
  const bool sums = weight_sums != nullptr || bias_sums != nullptr;
  const float* means = read_pointer<float>(statistics);
  at::parallel_for(0, rows, sums ? rows : kLayerNormGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      kernels.layer_norm_backward(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                                  read_pointer<T>(dy) + row * n, means[row], means[rows + row],
                                  write_pointer<T>(dx) + row * n, weight_sums, bias_sums, n);
    }
  });
}

}  // namespace

NormResult layer_norm_forward(const at::Tensor& x, const Norm& norm) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  NormResult result{at::empty_like(x), at::empty({2, rows}, x.options().dtype(at::kFloat))};
  if (!computes(x)) return result;
  if (x.is_cuda()) {
    layer_norm_forward_cuda(x, norm.weight->weight(), norm.bias->weight(), norm.epsilon, result.y,
                            result.statistics);
    return result;
  }
  float* means = write_pointer<float>(result.statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    at::parallel_for(0, rows, kLayerNormGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        kernels.layer_norm(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                           read_pointer<T>(norm.bias->weight()), write_pointer<T>(result.y) + row * n, n,
                           static_cast<float>(norm.epsilon), means + row, means + rows + row);
      }
    });
  });
  return result;
}

at::Tensor layer_norm_again(const at::Tensor& x, const at::Tensor& statistics, const Norm& norm) {
  at::Tensor y = at::empty_like(x);
  if (!computes(x)) return y;
  if (x.is_cuda()) {
    layer_norm_again_cuda(x, norm.weight->weight(), norm.bias->weight(), statistics, y);
    return y;
  }
  const std::int64_t rows = x.size(0), n = x.size(1);
  const float* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    at::parallel_for(0, rows, kLayerNormGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        kernels.layer_norm_again(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                                 read_pointer<T>(norm.bias->weight()), write_pointer<T>(y) + row * n, n,
                                 means[row], means[rows + row]);
      }
    });
  });
  return y;
}

at::Tensor layer_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics,
                               const Norm& norm) {
  at::Tensor dx = at::empty_like(x);
  if (target_of(x) == Target::cuda) {
    layer_norm_backward_cuda(dy, x, norm.weight->weight(), statistics, dx, trainable_gradient(*norm.weight),
                             trainable_gradient(*norm.bias));
    return dx;
  }
  if (!computes(x)) {
    trainable_gradient(*norm.weight);
    trainable_gradient(*norm.bias);
    return dx;
  }
  with_activation_type(
      x, [&](auto type) { layer_norm_backward_rows<decltype(type)>(dy, x, statistics, norm, dx); });
  return dx;
}

}  // namespace autoglm::ops
