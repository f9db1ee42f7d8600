#include "trainer/ops/rms_norm.h"

#include "trainer/ops/elementwise_cuda.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Rows a thread takes at least, so that small norms stay on one.
constexpr std::int64_t kRmsNormGrain = 16;

template <typename T>
void rms_norm_backward_rows(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                            const Norm& norm, at::Tensor& dx) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  const auto& kernels = simd::activation_kernels<T>();
  // The weight's gradient sums over rows: one thread takes them in order when it is wanted.
  float* dweight = norm.weight->trainable() ? write_pointer<float>(norm.weight->gradient()) : nullptr;
  const std::int64_t grain = dweight != nullptr ? rows : kRmsNormGrain;
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      kernels.rms_norm_backward(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                                read_pointer<T>(dy) + row * n, read_pointer<float>(rstd)[row],
                                write_pointer<T>(dx) + row * n, dweight, n);
    }
  });
}

}  // namespace

NormResult rms_norm_forward(const at::Tensor& x, const Norm& norm) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  NormResult result{at::empty_like(x), at::empty({rows}, x.options().dtype(at::kFloat))};
  if (!computes(x)) return result;
  if (x.is_cuda()) {
    rms_norm_forward_cuda(x, norm.weight->weight(), norm.epsilon, result.y, result.statistics);
    return result;
  }
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    at::parallel_for(0, rows, kRmsNormGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        write_pointer<float>(result.statistics)[row] =
            kernels.rms_norm(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                             write_pointer<T>(result.y) + row * n, n, static_cast<float>(norm.epsilon));
      }
    });
  });
  return result;
}

at::Tensor rms_norm_again(const at::Tensor& x, const at::Tensor& rstd, const Norm& norm) {
  at::Tensor y = at::empty_like(x);
  if (!computes(x)) return y;
  if (x.is_cuda()) {
    rms_norm_again_cuda(x, norm.weight->weight(), rstd, y);
    return y;
  }
  const std::int64_t rows = x.size(0), n = x.size(1);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    at::parallel_for(0, rows, kRmsNormGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        kernels.rms_norm_again(read_pointer<T>(x) + row * n, read_pointer<T>(norm.weight->weight()),
                               write_pointer<T>(y) + row * n, n, read_pointer<float>(rstd)[row]);
      }
    });
  });
  return y;
}

at::Tensor rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                             const Norm& norm) {
  at::Tensor dx = at::empty_like(x);
  if (target_of(x) == Target::cuda) {
    const at::Tensor dweight = norm.weight->trainable() ? norm.weight->gradient() : at::Tensor();
    rms_norm_backward_cuda(dy, x, norm.weight->weight(), rstd, dx, dweight);
    return dx;
  }
  if (!computes(x)) {
    if (norm.weight->trainable()) norm.weight->gradient();
    return dx;
  }
  with_activation_type(x, [&](auto type) { rms_norm_backward_rows<decltype(type)>(dy, x, rstd, norm, dx); });
  return dx;
}

}  // namespace autoglm::ops
