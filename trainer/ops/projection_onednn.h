// Projections whose products oneDNN computes in the operands' own type.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "trainer/ops/projection.h"

namespace autoglm::ops {

// Whether the process's route is that for activations like these (on the CPU or rehearsed for it).
bool projects_by_onednn(const at::Tensor& x);

// As project(), into outputs that are there.
void project_onednn(const at::Tensor& x_MK, std::span<const Projection> projections,
                    std::vector<at::Tensor>& outputs);

// As project_backward(), into dx where it is defined, but for gradients of biases.
void project_backward_onednn(std::span<const at::Tensor> dy, const at::Tensor& x_MK,
                             std::span<const Projection> projections, at::Tensor& dx);

}  // namespace autoglm::ops
