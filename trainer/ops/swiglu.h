// SwiGLU (Shazeer, 2020): silu(gate) * up.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace autoglm::ops {

// `gate_up` is one tensor [M, 2 F] (gate in the first half of each row) or two of [M, F], gate first; the
// product is [M, F]. On CUDA the rows of both may lie equally far apart.
at::Tensor swiglu(const std::vector<at::Tensor>& gate_up);

// Gradients of `gate_up`, shaped as it is; two may be neighbouring columns of one matrix.
std::vector<at::Tensor> swiglu_backward(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout_MF);

// Gate and up as rows with a stride, whether they lie in one tensor or in two.
struct GateUp {
  const at::Tensor* gate;
  const at::Tensor* up;
  std::int64_t rows;
  std::int64_t width;
  std::int64_t stride;
  std::int64_t up_offset;

  explicit GateUp(const std::vector<at::Tensor>& tensors)
      : gate(&tensors.front()), up(&tensors.back()), rows(tensors.front().size(0)) {
    const bool fused = tensors.size() == 1;
    stride = gate->stride(0);
    width = fused ? gate->size(1) / 2 : gate->size(1);
    up_offset = fused ? width : 0;
  }
};

// The CUDA routes, which also run on host tensors.
void swiglu_forward_cuda(const std::vector<at::Tensor>& gate_up, at::Tensor& out);
void swiglu_backward_cuda(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout,
                          std::vector<at::Tensor>& gradients);

}  // namespace autoglm::ops
