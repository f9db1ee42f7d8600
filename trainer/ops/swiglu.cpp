#include "trainer/ops/swiglu.h"

#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

constexpr std::int64_t kSwigluGrain = 8;  // rows

void swiglu_forward_cpu(const std::vector<at::Tensor>& gate_up, at::Tensor& out) {
  const GateUp in(gate_up);
  with_activation_type(out, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(in.rows, kSwigluGrain, [&](std::int64_t row) {
      kernels.swiglu(read_pointer<T>(*in.gate) + row * in.stride,
                     read_pointer<T>(*in.up) + row * in.stride + in.up_offset,
                     write_pointer<T>(out) + row * in.width, in.width);
    });
  });
}

void swiglu_backward_cpu(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout,
                         std::vector<at::Tensor>& gradients) {
  const GateUp in(gate_up);
  with_activation_type(dout, [&](auto type) {
    using T = decltype(type);
    const auto& kernels = simd::activation_kernels<T>();
    for_each_row(in.rows, kSwigluGrain, [&](std::int64_t row) {
      const std::int64_t at = row * in.stride;
      kernels.swiglu_backward(read_pointer<T>(*in.gate) + at, read_pointer<T>(*in.up) + at + in.up_offset,
                              read_pointer<T>(dout) + row * in.width,
                              write_pointer<T>(gradients.front()) + at,
                              write_pointer<T>(gradients.back()) + at + in.up_offset, in.width);
    });
  });
}

}  // namespace

at::Tensor swiglu(const std::vector<at::Tensor>& gate_up) {
  const GateUp in(gate_up);
  at::Tensor out = at::empty({in.rows, in.width}, in.gate->options());
  if (runs(out)) route(out, swiglu_forward_cpu, swiglu_forward_cuda)(gate_up, out);
  return out;
}

std::vector<at::Tensor> swiglu_backward(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout) {
  std::vector<at::Tensor> gradients;
  if (gate_up.size() == 2 && target_of(dout) == Target::cuda) {
    // Side by side: one product reads both.
    const std::int64_t width = dout.size(1);
    const at::Tensor both = at::empty({dout.size(0), 2 * width}, dout.options());
    gradients = {both.narrow(1, 0, width), both.narrow(1, width, width)};
  } else {
    for (const at::Tensor& tensor : gate_up) gradients.push_back(at::empty_like(tensor));
  }
  if (runs(dout)) route(dout, swiglu_backward_cpu, swiglu_backward_cuda)(gate_up, dout, gradients);
  return gradients;
}

}  // namespace autoglm::ops
