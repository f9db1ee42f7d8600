// The CUDA route of the small ops: same contracts as the functions they stand behind. Asynchronous on the
// current CUDA stream; outputs are allocated by the caller. On host tensors the same kernels run on the host.
//
// The backward functions that need scratch space allocate it on meta tensors too, and compute nothing
// there.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "trainer/ops/rotary.h"

namespace autoglm::ops {

void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd);
void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y);
// Adds to dweight (fp32) when it is defined.
void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const at::Tensor& dweight);
// Statistics are [2, M]: means, then 1 / deviations.
void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics);
void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y);
// Adds to dweight and dbias (fp32) where they are defined.
void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const at::Tensor& dweight,
                              const at::Tensor& dbias);
void relu_cuda(at::Tensor& x);
void relu_backward_cuda(const at::Tensor& y, at::Tensor& dy);
void swiglu_forward_cuda(const std::vector<at::Tensor>& gate_up, at::Tensor& out);
void swiglu_backward_cuda(const std::vector<at::Tensor>& gate_up, const at::Tensor& dout,
                          std::vector<at::Tensor>& gradients);
// A position beyond the table stops the device.
void rotary_cuda(const at::Tensor& x, const at::Tensor& positions, const RotaryTable& table, float sign,
                 at::Tensor& y);
// An id beyond the table stops the device.
void embedding_forward_cuda(const at::Tensor& ids, const at::Tensor& table, at::Tensor& y);
// Adds to gradient (fp32 [V, H]), the tokens of an id in their order.
void embedding_backward_cuda(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& gradient);

// Adds the column sums of y [M, N] to gradient fp32 [N]. With x [M, N] and the statistics of its norm (fp32
// [M], or [2, M] with means) each element is first multiplied by the normed x of its place.
void add_column_sums_cuda(const at::Tensor& y, const at::Tensor& x, const at::Tensor& statistics,
                          const at::Tensor& gradient);

}  // namespace autoglm::ops
