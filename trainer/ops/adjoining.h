// Tensors that lie side by side, as the one view that covers them. Storage and offsets decide, on meta as elsewhere.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

namespace autoglm::ops {

// Dense tensors [N_i, K] or [N_i], each beginning where the one before ends: [sum of N_i, K] or [sum of N_i];
// undefined where they do not.
at::Tensor joined_rows(std::span<const at::Tensor> parts);

// Matrices [M, N_i] that are neighbouring columns of a larger one: [M, sum of N_i]; undefined where they are not.
at::Tensor joined_columns(std::span<const at::Tensor> parts);

}  // namespace autoglm::ops
