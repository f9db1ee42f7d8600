#include "trainer/ops/relu.h"

#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

constexpr std::int64_t kReluGrain = 1 << 16;

void relu_cpu(at::Tensor& x) {
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, x.numel(), kReluGrain, [&](std::int64_t begin, std::int64_t end) {
      simd::activation_kernels<T>().relu(write_pointer<T>(x) + begin, end - begin);
    });
  });
}

void relu_backward_cpu(const at::Tensor& y, at::Tensor& dy) {
  with_activation_type(y, [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, y.numel(), kReluGrain, [&](std::int64_t begin, std::int64_t end) {
      simd::activation_kernels<T>().relu_backward(read_pointer<T>(y) + begin, write_pointer<T>(dy) + begin,
                                                  end - begin);
    });
  });
}

}  // namespace

void relu_in_place(at::Tensor& x) {
  if (runs(x)) route(x, relu_cpu, relu_cuda)(x);
}

void relu_backward_in_place(const at::Tensor& y, at::Tensor& dy) {
  if (runs(y)) route(y, relu_backward_cpu, relu_backward_cuda)(y, dy);
}

}  // namespace autoglm::ops
