// The CUDA route of head.h, with the same contract; also runs on host tensors, and on meta tensors it
// allocates as on CUDA and computes nothing. The gradient of bf16 logits is rounded to bf16, where it lies,
// before it enters products; everything up to there is fp32. head_loss_cuda() waits for the device once, for
// the losses.
#pragma once

#include <ATen/core/Tensor.h>

#include "trainer/ops/head.h"

namespace autoglm::ops {

HeadResult head_loss_cuda(const at::Tensor& x, const at::Tensor& targets, const Head& head,
                          std::int64_t chunk_tokens, float gradient_scale, bool training);
at::Tensor head_logits_cuda(const at::Tensor& x, const Head& head);

}  // namespace autoglm::ops
