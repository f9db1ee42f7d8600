// Matrix products of the CUDA routes, through LibTorch's cuBLAS. bf16 operands are multiplied exactly, summed
// in fp32 and rounded once, to the type of `out`. Nothing is allocated beyond cuBLAS's own workspace, which
// LibTorch keeps per thread and stream. On host tensors ATen's CPU products stand in (through fp32 copies
// where out's type differs); on meta tensors work is counted: that on the operands as of products, that on `out`
// as of the kind that is given.
#pragma once

#include <ATen/core/Tensor.h>

#include "sharding/work.h"
#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// out [M, N] = a [M, K] @ b [K, N]; out has a's type or fp32. Operands may be transposed views.
void product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out,
                  WorkKind of_out = WorkKind::products);

// out [M, N] += a @ b; M and N above 1, since LibTorch takes a single row for a bias.
void add_product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, WorkKind of_out);

// The gradient [M, N] takes a @ b: written where it is fresh, else added.
void gradient_product_cuda(const at::Tensor& a, const at::Tensor& b, const GradientBuffer& gradient);

// out [M, N] = a @ b + bias [N].
void product_with_bias_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                            const at::Tensor& out);

}  // namespace autoglm::ops
