#include "trainer/ops/swiglu.h"

#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

using cuda::run;

void swiglu_forward_cuda(const std::vector<at::Tensor>& gate_up, at::Tensor& out) {
  const GateUp in(gate_up);
  if (!computes(out)) return count_kernel(WorkKind::activations, gate_up, {out});
  with_activation_type(out, [&](auto type) {
    using T = decltype(type);
    const cuda::SwigluForward<T> kernel(read_pointer<T>(*in.gate), read_pointer<T>(*in.up) + in.up_offset,
                                        write_pointer<T>(out), in.rows, in.width, in.stride);
    run(kernel, kernel.tiles.blocks(), out);
  });
}

void swiglu_backward_cuda(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout,
                          std::vector<at::Tensor>& gradients) {
  const GateUp in(gate_up);
  if (!computes(dout)) {
    std::vector<at::Tensor> read = gate_up;
    read.push_back(dout);
    return count_kernel(WorkKind::activations, read, gradients);
  }
  with_activation_type(dout, [&](auto type) {
    using T = decltype(type);
    const cuda::SwigluBackward<T> kernel(read_pointer<T>(*in.gate), read_pointer<T>(*in.up) + in.up_offset,
                                         read_pointer<T>(dout), write_pointer<T>(gradients.front()),
                                         write_pointer<T>(gradients.back()) + in.up_offset, in.rows, in.width,
                                         in.stride, gradients.front().stride(0));
    run(kernel, kernel.tiles.blocks(), dout);
  });
}

}  // namespace autoglm::ops
