// The norm of the gradients that ranks have accumulated.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

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
  // The sums of the pieces that lie whole in one memory, of all blocks: on the device first, for it needs no waiting.
  void sum_whole_pieces(std::vector<double>& sums) const;
  double straddling_piece(const BlockState& state, const ElementRange& range) const;

  std::span<const BlockState> states_;
  at::Tensor piece_;        // fp32 [kSquaresPiece] on the host, for pieces that lie in both memories
  at::Tensor device_sums_;  // fp64, one for each piece, where gradients lie on CUDA
};

}  // namespace autoglm
