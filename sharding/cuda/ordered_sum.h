// Sums of what several ranks have sent, in their order.
#pragma once

#include <cstdint>

#include "base/bf16.h"

namespace autoglm {

// `to` = before + part 0 + part 1 + ..., added from the left in fp32; `before` may be missing. Received part p
// begins at received + p * stride; a part that was not received, `own`, stands before part `own_place`. `to` may
// be `own` and nothing else of these. When parts are `rounded`, received ones are bf16, and `own` is rounded to
// bf16 before it is added.
struct OrderedSum {
  float* to = nullptr;
  const float* before = nullptr;
  const void* received = nullptr;  // fp32, or bf16 bits
  std::int64_t stride = 0;         // in elements
  int num_received = 0;
  const float* own = nullptr;  // null: there is none
  int own_place = 0;
  std::int64_t count = 0;  // of elements
  bool rounded = false;
};

// Values that one thread loads and stores at once, 16 bytes at a time where there are enough of them.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T) < 16 ? kCount * sizeof(T) : 16) SumRun {
  T values[kCount];
};

// Run i of an array.
template <typename T, int kCount>
AUTOGLM_HOST_DEVICE inline SumRun<T, kCount> load_sum_run(const void* from, std::int64_t i) {
  return static_cast<const SumRun<T, kCount>*>(from)[i];
}

AUTOGLM_HOST_DEVICE inline float widen_part(float value) {
  return value;
}
AUTOGLM_HOST_DEVICE inline float widen_part(std::uint16_t value) {
  return widen_bf16(value);
}

template <typename T, int kCount>
AUTOGLM_HOST_DEVICE inline void add_to(SumRun<float, kCount>& sum, const SumRun<T, kCount>& part) {
  for (int i = 0; i < kCount; ++i) sum.values[i] += widen_part(part.values[i]);
}

// Run i of the sum, of parts of type T.
template <typename T, int kCount>
AUTOGLM_HOST_DEVICE inline void sum_run(const OrderedSum& sum, std::int64_t i) {
  using Floats = SumRun<float, kCount>;
  constexpr bool kRounded = sizeof(T) == 2;
  const auto part = [&](int number) {
    return load_sum_run<T, kCount>(static_cast<const T*>(sum.received) + number * sum.stride, i);
  };
  Floats own = {}, result = {};
  if (sum.own != nullptr) own = load_sum_run<float, kCount>(sum.own, i);
  if constexpr (kRounded) {
    for (float& value : own.values) value = widen_bf16(round_bf16(value));
  }
  const bool own_first = sum.before == nullptr && sum.own != nullptr && sum.own_place == 0;
  int next = 0;
  if (sum.before != nullptr) {
    result = load_sum_run<float, kCount>(sum.before, i);
  } else if (own_first) {
    result = own;
  } else {
    const SumRun<T, kCount> first = part(next++);
    for (int k = 0; k < kCount; ++k) result.values[k] = widen_part(first.values[k]);
  }
  const auto add_until = [&](int end) {
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
    for (; next < end; ++next) add_to(result, part(next));
  };
  if (sum.own != nullptr && !own_first) {
    add_until(sum.own_place);
    add_to(result, own);
  }
  add_until(sum.num_received);
  reinterpret_cast<Floats*>(sum.to)[i] = result;
}

// A run of bf16 takes 16 bytes.
inline constexpr int kFloatRun = 4, kRoundedRun = 8;

// Whether everything lies where runs can be loaded 16 bytes at a time.
inline bool is_wide(const OrderedSum& sum) {
  const auto aligned = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; };
  return aligned(sum.to) && aligned(sum.before) && aligned(sum.received) && aligned(sum.own) &&
         sum.stride % (sum.rounded ? kRoundedRun : kFloatRun) == 0;
}
inline bool is_wide(const float* from, const std::uint16_t* to) {
  return reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && reinterpret_cast<std::uintptr_t>(to) % 16 == 0;
}

// Threads that `count` elements take: for a run each, where `wide`, and for the rest one each.
inline std::int64_t run_threads(std::int64_t count, int run, bool wide) {
  return wide ? count / run + count % run : count;
}
inline std::int64_t sum_threads(const OrderedSum& sum, bool wide) {
  return run_threads(sum.count, sum.rounded ? kRoundedRun : kFloatRun, wide);
}

// What one of these threads does.
template <typename T, int kRun>
AUTOGLM_HOST_DEVICE inline void sum_of_thread(const OrderedSum& sum, bool wide, std::int64_t thread) {
  const std::int64_t runs = wide ? sum.count / kRun : 0;
  if (thread < runs) {
    sum_run<T, kRun>(sum, thread);
  } else if (thread < sum.count - (kRun - 1) * runs) {
    sum_run<T, 1>(sum, thread + (kRun - 1) * runs);
  }
}
AUTOGLM_HOST_DEVICE inline void sum_of_thread(const OrderedSum& sum, bool wide, std::int64_t thread) {
  if (sum.rounded) {
    sum_of_thread<std::uint16_t, kRoundedRun>(sum, wide, thread);
  } else {
    sum_of_thread<float, kFloatRun>(sum, wide, thread);
  }
}

// Run i of `to`: a part, rounded to be sent.
template <int kCount>
AUTOGLM_HOST_DEVICE inline void round_run(const float* from, std::uint16_t* to, std::int64_t i) {
  const auto values = load_sum_run<float, kCount>(from, i);
  SumRun<std::uint16_t, kCount> rounded;
  for (int k = 0; k < kCount; ++k) rounded.values[k] = round_bf16(values.values[k]);
  reinterpret_cast<SumRun<std::uint16_t, kCount>*>(to)[i] = rounded;
}
AUTOGLM_HOST_DEVICE inline void round_of_thread(const float* from, std::uint16_t* to, std::int64_t count,
                                                bool wide, std::int64_t thread) {
  const std::int64_t runs = wide ? count / kRoundedRun : 0;
  if (thread < runs) {
    round_run<kRoundedRun>(from, to, thread);
  } else if (thread < count - (kRoundedRun - 1) * runs) {
    round_run<1>(from, to, thread + (kRoundedRun - 1) * runs);
  }
}

inline void sum_on_host(const OrderedSum& sum) {
  const bool wide = is_wide(sum);
  for (std::int64_t thread = 0; thread < sum_threads(sum, wide); ++thread) sum_of_thread(sum, wide, thread);
}
inline void round_on_host(const float* from, std::uint16_t* to, std::int64_t count) {
  const bool wide = is_wide(from, to);
  const std::int64_t threads = run_threads(count, kRoundedRun, wide);
  for (std::int64_t thread = 0; thread < threads; ++thread) round_of_thread(from, to, count, wide, thread);
}

// Queue the same on `stream`, a cudaStream_t of the calling thread's device. They return null, or what CUDA says
// is wrong.
const char* sum_on_device(const OrderedSum& sum, void* stream);
const char* round_on_device(const float* from, std::uint16_t* to, std::int64_t count, void* stream);

}  // namespace autoglm
