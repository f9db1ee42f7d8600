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

// Neighbouring elements as one, whose address is a multiple of their bytes.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T)) AdamWRun {
  T elements[kCount];
};
template <int kCount, typename T>
AUTOGLM_HOST_DEVICE inline AdamWRun<T, kCount> load_run(const void* from, std::int64_t i) {
  return *reinterpret_cast<const AdamWRun<T, kCount>*>(static_cast<const T*>(from) + i);
}
template <int kCount, typename T>
AUTOGLM_HOST_DEVICE inline void store_run(void* to, std::int64_t i, const AdamWRun<T, kCount>& run) {
  *reinterpret_cast<AdamWRun<T, kCount>*>(static_cast<T*>(to) + i) = run;
}

// Values that are stored as fp32 or bf16.
template <int kCount>
AUTOGLM_HOST_DEVICE inline AdamWRun<float, kCount> load_floats(const void* from, bool bf16, std::int64_t i) {
  if (!bf16) return load_run<kCount, float>(from, i);
  AdamWRun<float, kCount> values;
  const auto stored = load_run<kCount, std::uint16_t>(from, i);
  for (int k = 0; k < kCount; ++k) values.elements[k] = widen_bf16(stored.elements[k]);
  return values;
}

// Elements that a thread updates at once, where hold_adamw_runs().
inline constexpr int kAdamWRun = 4;

// Whether whole runs can begin at all of a slice's pointers: at multiples of 16 bytes in fp32, and of 8 of 16 bits.
AUTOGLM_HOST_DEVICE inline bool hold_adamw_runs(const AdamWSlice& slice) {
  const auto holds = [](const void* pointer, bool of_16_bits) {
    return reinterpret_cast<std::uintptr_t>(pointer) % (kAdamWRun * (of_16_bits ? 2 : 4)) == 0;
  };
  return holds(slice.master, false) && holds(slice.remainder, true) &&
         holds(slice.working, slice.bf16_working) && holds(slice.moment1, slice.bf16_moments) &&
         holds(slice.moment2, slice.bf16_moments) && holds(slice.gradient, slice.bf16_gradient);
}

// `kCount` elements from the i-th on, in whatever form their states have: what the CUDA kernel runs per thread, and
// what the CPU's loops must equal to the bit.
template <int kCount = 1>
AUTOGLM_HOST_DEVICE inline void adamw_slice_elements(const AdamWSlice& slice, const AdamWUpdate& update,
                                                     std::int64_t i) {
  const auto gradient = load_floats<kCount>(slice.gradient, slice.bf16_gradient, i);
  AdamWRun<float, kCount> master, moment1{}, moment2{};
  if (slice.remainder == nullptr) {
    master = load_run<kCount, float>(slice.master, i);
  } else {
    const auto upper = load_run<kCount, std::uint16_t>(slice.working, i);
    const auto lower = load_run<kCount, std::int16_t>(slice.remainder, i);
    for (int k = 0; k < kCount; ++k) master.elements[k] = join_weight(upper.elements[k], lower.elements[k]);
  }
  if (!update.first) {
    moment1 = load_floats<kCount>(slice.moment1, slice.bf16_moments, i);
    moment2 = load_floats<kCount>(slice.moment2, slice.bf16_moments, i);
  }
  for (int k = 0; k < kCount; ++k) {
    adamw_element(master.elements[k], moment1.elements[k], moment2.elements[k], gradient.elements[k],
                  update.factors);
  }
  if (slice.bf16_moments) {
    AdamWRun<std::uint16_t, kCount> rounded1, rounded2;
    for (int k = 0; k < kCount; ++k) {
      const std::uint64_t place = slice.first_element + static_cast<std::uint64_t>(i + k);
      rounded1.elements[k] = round_stochastically(moment1.elements[k], place, update.noise_key);
      rounded2.elements[k] = round_stochastically(moment2.elements[k], place, ~update.noise_key);
    }
    store_run(slice.moment1, i, rounded1);
    store_run(slice.moment2, i, rounded2);
  } else {
    store_run(slice.moment1, i, moment1);
    store_run(slice.moment2, i, moment2);
  }
  if (slice.remainder != nullptr) {
    AdamWRun<std::int16_t, kCount> lower;
    for (int k = 0; k < kCount; ++k) lower.elements[k] = weight_remainder(master.elements[k]);
    store_run(slice.remainder, i, lower);
  } else {
    store_run(slice.master, i, master);
  }
  if (slice.working == nullptr) return;
  if (!slice.bf16_working) return store_run(slice.working, i, master);
  AdamWRun<std::uint16_t, kCount> working;
  for (int k = 0; k < kCount; ++k) working.elements[k] = round_weight(master.elements[k]);
  store_run(slice.working, i, working);
}

}  // namespace autoglm
