#include "trainer/ops/relu.h"

#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

using cuda::run;

void relu_cuda(at::Tensor& x) {
  if (!computes(x)) return count_kernel(WorkKind::activations, {x}, {x});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::Relu<T>{write_pointer<T>(x), x.numel()}, cuda::Relu<T>::blocks(x.numel()), x);
  });
}

void relu_backward_cuda(const at::Tensor& y, at::Tensor& dy) {
  if (!computes(y)) return count_kernel(WorkKind::activations, {y}, {dy});
  with_activation_type(y, [&](auto type) {
    using T = decltype(type);
    run(cuda::ReluBackward<T>{read_pointer<T>(y), write_pointer<T>(dy), y.numel()},
        cuda::ReluBackward<T>::blocks(y.numel()), y);
  });
}

}  // namespace autoglm::ops
