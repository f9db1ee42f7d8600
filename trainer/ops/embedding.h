// Rows of a table by token id.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// table [V, H] at ids int64 [B, T], counted from `first_row` on: [B, T, H] in the table's dtype. `anchor` is
// any tensor that requires a gradient: ids cannot, and without one autograd would record nothing. Throws
// Error(bug) for an id outside the table.
at::Tensor embedding(const at::Tensor& ids_BT, Parameter& table, const at::Tensor& anchor,
                     std::int64_t first_row = 0);

// The CUDA routes, which also run on host tensors. An id beyond the table stops the device.
void embedding_forward_cuda(const at::Tensor& ids, const at::Tensor& table, at::Tensor& y);
// Adds to gradient (fp32 [V, H]), the tokens of an id in their order. On meta tensors it allocates its scratch
// space and computes nothing.
void embedding_backward_cuda(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& gradient);

}  // namespace autoglm::ops
