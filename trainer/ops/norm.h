// The norms of a model behind one interface: RMSNorm, LayerNorm, or none.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

enum class NormKind { none, rms, layer };

// One norm. The handles belong to the model's blocks.
struct Norm {
  NormKind kind = NormKind::none;  // none: y is x, and there is nothing below
  Parameter* weight = nullptr;     // [H]
  double epsilon = 1e-5;
  Parameter* bias = nullptr;  // [H], of a LayerNorm
};

// y [..., H] in x's dtype; arithmetic in fp32. Recorded by autograd.
at::Tensor normalize(const at::Tensor& x, const Norm& norm);

// The pieces, for ops that contain a norm. Tensors are contiguous [M, H].
struct NormResult {
  at::Tensor y;
  // fp32, what the backward needs: 1 / deviation [M] of an RMSNorm; mean and 1 / deviation [2, M] of a
  // LayerNorm; undefined without a norm.
  at::Tensor statistics;
};
NormResult norm_forward(const at::Tensor& x_MH, const Norm& norm);
// The same y again, to the bit.
at::Tensor norm_again(const at::Tensor& x_MH, const at::Tensor& statistics, const Norm& norm);
// dx [M, H] (dy itself without a norm); adds the gradients of weight and bias where they are trainable.
at::Tensor norm_backward(const at::Tensor& dy_MH, const at::Tensor& x_MH, const at::Tensor& statistics,
                         const Norm& norm);

}  // namespace autoglm::ops
