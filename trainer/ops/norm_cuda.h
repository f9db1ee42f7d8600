// How the CUDA routes of norms go backward over their rows.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/parameter.h"

namespace autoglm::ops {

// Blocks of rows. Without gradients of parameters a block needs no other rows' sums.
struct NormBlocks {
  NormBlocks(const at::Tensor& x_MH, bool sums);

  std::int64_t block_rows;
  std::int64_t count;
};

// Scratch space for what each block adds to a parameter's gradient.
struct BlockSums {
  BlockSums(const at::Tensor& x_MH, const NormBlocks& blocks, const GradientBuffer& gradient);

  // Null when the gradient is not wanted.
  float* pointer() const;
  // Adds all blocks' to the gradient where it is wanted.
  void add_to(const GradientBuffer& gradient) const;

  at::Tensor values;  // fp32 [blocks, H]; undefined when the gradient is not wanted
};

}  // namespace autoglm::ops
