// The norm of the gradients that ranks have accumulated.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "trainer/states/block_state.h"

namespace autoglm {

class GradientNorm {
 public:
  // Allocates scratch space. The states must outlive the object.
  GradientNorm(std::span<const BlockState> states, const StatePlacement& placement);

  // Sum of squares of this rank's shards of all blocks in fp64, over pieces by global offset: in an order that
  // does not depend on where they lie. 0 on meta. Blocks the calling thread.
  double sum_of_squares() const;

 private:
  double sum_of_squares(const BlockState& state) const;

  std::span<const BlockState> states_;
  at::Tensor piece_;        // fp32 [kSquaresPiece] on the host, for pieces that lie in both memories
  at::Tensor device_sums_;  // fp64, one for each piece of the largest block, where gradients lie on CUDA
};

}  // namespace autoglm
