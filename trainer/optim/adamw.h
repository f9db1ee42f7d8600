// AdamW with decoupled weight decay (Loshchilov and Hutter, 2019) on flat buffers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "trainer/optim/adamw_settings.h"
#include "trainer/optim/adamw_slice.h"

namespace autoglm {

// The factors of one step (1, 2, ...); `gradient_scale` multiplies every gradient (clipping).
AdamWFactors adamw_factors(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                           double gradient_scale, bool decays);

// Updates a run of elements in host memory with all threads. Nothing is allocated. The bits of an element do
// not depend on where runs are cut, nor on how the master is stored.
void adamw(const AdamWSlice& slice, const AdamWUpdate& update);

std::uint32_t adamw_noise_key(std::uint64_t seed, std::int64_t step);

// Sums of squares are taken over pieces of so many elements, counted from the beginning of a shard.
inline constexpr std::int64_t kSquaresPiece = std::int64_t{1} << 14;

// Of at most kSquaresPiece elements of a flat fp32 or bf16 tensor on the host, in fp64.
double piece_sum_of_squares(const at::Tensor& flat, std::int64_t begin, std::int64_t count);

// What clip_grad_norm_ multiplies gradients by: min(1, limit / (norm + 1e-6)); 1 when `limit` is 0.
double clip_factor(double norm, double limit);

}  // namespace autoglm
