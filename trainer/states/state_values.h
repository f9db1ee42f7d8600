// Values of a block's states as fp32 in host memory, wherever and however they are stored.
#pragma once

#include <cstdint>
#include <span>

#include "trainer/states/block_state.h"

namespace autoglm {

// Writes fp32 values of parameter `parameter` from element `begin` of its group on to where they belong: to
// the working weights, which hold them, and to the master weights, as far as these lie here.
void store_weights(BlockState& state, std::size_t parameter, std::int64_t begin,
                   std::span<const float> values);

// Master weights of a range of trainable elements that this rank optimizes; a split master is joined.
void read_master(const BlockState& state, ElementRange range, std::span<float> values);

// Accumulated gradients of a range in this rank's shard.
void read_gradient(const BlockState& state, ElementRange range, std::span<float> values);

// What values become when they are written as bf16: the same rounding as for working weights.
void round_to_bf16(std::span<float> values);

}  // namespace autoglm
