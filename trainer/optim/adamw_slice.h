// What AdamW updates at a time, and what it does to one element of it.
#pragma once

#include <cstdint>

#include "trainer/simd/adamw_element.h"

namespace autoglm {

// A run of elements with everything that belongs to them, in one memory.
struct AdamWSlice {
  std::int64_t count = 0;
  float* master = nullptr;            // the fp32 weights; null when they are split
  std::int16_t* remainder = nullptr;  // when split: what `working` lacks
  void* working = nullptr;  // receives the rounded weights; null when the master is the working weight
  void* moment1 = nullptr;
  void* moment2 = nullptr;
  const void* gradient = nullptr;
  bool bf16_working = true;
  bool bf16_moments = false;
  bool bf16_gradient = false;
  std::uint64_t first_element =
      0;  // place of the first one among all the model's: keys the rounding of moments
};

// What is the same for many runs.
struct AdamWUpdate {
  AdamWFactors factors{};
  bool first = false;           // the moments are taken as zero, whatever they hold
  std::uint32_t noise_key = 0;  // of seed and step, for moments in bf16
};

// One element in whatever form its states have: what the CUDA kernel runs per thread, and what the CPU's
// loops must equal to the bit.
AUTOGLM_HOST_DEVICE inline void adamw_slice_element(const AdamWSlice& slice, const AdamWUpdate& update,
                                                    std::int64_t i) {
  const float gradient = slice.bf16_gradient
                             ? widen_bf16(static_cast<const std::uint16_t*>(slice.gradient)[i])
                             : static_cast<const float*>(slice.gradient)[i];
  auto* working = static_cast<std::uint16_t*>(slice.working);
  float master = slice.remainder != nullptr ? join_weight(working[i], slice.remainder[i]) : slice.master[i];
  float moment1 = 0, moment2 = 0;
  if (!update.first && slice.bf16_moments) {
    moment1 = widen_bf16(static_cast<std::uint16_t*>(slice.moment1)[i]);
    moment2 = widen_bf16(static_cast<std::uint16_t*>(slice.moment2)[i]);
  } else if (!update.first) {
    moment1 = static_cast<float*>(slice.moment1)[i];
    moment2 = static_cast<float*>(slice.moment2)[i];
  }
  adamw_element(master, moment1, moment2, gradient, update.factors);
  if (slice.bf16_moments) {
    const std::uint64_t place = slice.first_element + static_cast<std::uint64_t>(i);
    static_cast<std::uint16_t*>(slice.moment1)[i] = round_stochastically(moment1, place, update.noise_key);
    static_cast<std::uint16_t*>(slice.moment2)[i] = round_stochastically(moment2, place, ~update.noise_key);
  } else {
    static_cast<float*>(slice.moment1)[i] = moment1;
    static_cast<float*>(slice.moment2)[i] = moment2;
  }
  if (slice.remainder != nullptr) {
    slice.remainder[i] = weight_remainder(master);
  } else {
    slice.master[i] = master;
  }
  if (slice.working == nullptr) return;
  if (slice.bf16_working) {
    working[i] = round_weight(master);
  } else {
    static_cast<float*>(slice.working)[i] = master;
  }
}

}  // namespace autoglm
