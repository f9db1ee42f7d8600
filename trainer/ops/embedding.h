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

}  // namespace autoglm::ops
