#include "trainer/ops/rms_norm.h"

#include "trainer/ops/elementwise_cuda.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Rows a thread takes at least, so that small norms stay on one.
constexpr std::int64_t kGrainRows = 16;

struct RmsNormNode final : Node {
  at::Tensor x;
  at::Tensor rstd;
  Norm norm;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dy = gradients[0].reshape({x.size(0), x.size(1)}).contiguous();
    return {rms_norm_backward(dy, x, rstd, norm).view(shape)};
  }
  void release_variables() override {
    x.reset();
    rstd.reset();
  }
};

template <typename T>
void backward_rows(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd, const Norm& norm,
                   at::Tensor& dx) {
  const std::int64_t rows = x.size(0), n = x.size(1);
  const auto& kernels = simd::activation_kernels<T>();
  // The weight's gradient sums over rows: one thread takes them in order when it is wanted.
  float* dweight = norm.weight->trainable() ? write_pointer<float>(norm.weight->gradient()) : nullptr;
  const std::int64_t grain = dweight != nullptr ? rows : kGrainRows;
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
    rms_norm_forward_cuda(x, norm.weight->weight(), norm.epsilon, result.y, result.rstd);
    return result;
  }
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    at::parallel_for(0, rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        write_pointer<float>(result.rstd)[row] =
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
    at::parallel_for(0, rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
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
  with_activation_type(x, [&](auto type) { backward_rows<decltype(type)>(dy, x, rstd, norm, dx); });
  return dx;
}

at::Tensor rms_norm(const at::Tensor& x, const Norm& norm) {
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  const at::Tensor flat = x.detach().reshape({-1, x.size(-1)}).contiguous();
  NormResult result = rms_norm_forward(flat, norm);
  at::Tensor y = result.y.view(x.sizes());
  if (record) {
    auto node = make_node<RmsNormNode>({x});
    node->x = flat;
    node->rstd = result.rstd;
    node->norm = norm;
    node->shape = x.sizes().vec();
    attach(y, node);
  }
  return y;
}

}  // namespace autoglm::ops
