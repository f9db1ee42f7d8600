// Matrix products of the CUDA routes, through LibTorch's cuBLAS. bf16 operands are multiplied exactly, summed
// in fp32 and rounded once, to the type of `out`. Nothing is allocated beyond cuBLAS's own workspace, which
// LibTorch keeps per thread and stream. On host tensors ATen's CPU products stand in (through fp32 copies
// where out's type differs).
#pragma once

#include <ATen/core/Tensor.h>

namespace autoglm::ops {

// out [M, N] = a [M, K] @ b [K, N]; out has a's type or fp32. Operands may be transposed views.
void product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out);

// out [M, N] += a @ b; M and N above 1, since LibTorch takes a single row for a bias.
void add_product_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out);

// out [M, N] = a @ b + bias [N].
void product_with_bias_cuda(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                            const at::Tensor& out);

}  // namespace autoglm::ops
