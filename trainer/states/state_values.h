// Values of a block's states as fp32 in host memory, wherever and however they are stored.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"

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

// What values become when they are written: as bf16 with the same rounding as for working weights, as fp16 to
// nearest even, as any other dtype as they are. Returns how many finite ones became infinite.
std::int64_t round_as_saved(std::span<float> values, DType dtype);

}  // namespace autoglm
