// Sums of what several ranks have sent, in their order.
#pragma once

#include <cstdint>

#include "base/bf16.h"

namespace autoglm {

// `to` = received part 0 + part 1 + ..., added from the left in fp32. Part p begins at received + p * stride;
// a part that was not received, `own`, stands before part `own_place`. `to` may be `own` and nothing else of these.
struct OrderedSum {
  float* to = nullptr;
  const float* received = nullptr;
  std::int64_t stride = 0;
  int num_received = 0;
  const float* own = nullptr;  // null: there is none
  int own_place = 0;
  std::int64_t count = 0;  // of elements
};

// What one thread loads and stores at a time.
struct alignas(16) FourFloats {
  float values[4];
};

AUTOGLM_HOST_DEVICE inline void add_to(float& sum, float value) {
  sum += value;
}
AUTOGLM_HOST_DEVICE inline void add_to(FourFloats& sum, const FourFloats& values) {
  for (int i = 0; i < 4; ++i) sum.values[i] += values.values[i];
}

// Element i of the sum, in units of T.
template <typename T>
AUTOGLM_HOST_DEVICE inline void sum_element(const OrderedSum& sum, std::int64_t i) {
  const int num_parts = sum.num_received + (sum.own != nullptr ? 1 : 0);
  const auto load = [&](int part) {
    const int before = sum.own != nullptr && part > sum.own_place ? 1 : 0;
    const float* from =
        sum.own != nullptr && part == sum.own_place ? sum.own : sum.received + (part - before) * sum.stride;
    return reinterpret_cast<const T*>(from)[i];
  };
  T result = load(0);
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
  for (int part = 1; part < num_parts; ++part) add_to(result, load(part));
  reinterpret_cast<T*>(sum.to)[i] = result;
}

// Whether everything lies where four elements can be loaded at once.
inline bool is_wide(const OrderedSum& sum) {
  const auto aligned = [](const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; };
  return aligned(sum.to) && aligned(sum.received) && aligned(sum.own) && sum.stride % 4 == 0;
}

// Threads that a sum takes: for four elements each, where `wide`, and for the rest one each.
inline std::int64_t sum_threads(const OrderedSum& sum, bool wide) {
  return wide ? sum.count / 4 + sum.count % 4 : sum.count;
}

// What one of these threads does.
AUTOGLM_HOST_DEVICE inline void sum_of_thread(const OrderedSum& sum, bool wide, std::int64_t thread) {
  const std::int64_t quads = wide ? sum.count / 4 : 0;
  if (thread < quads) {
    sum_element<FourFloats>(sum, thread);
  } else if (thread < sum.count - 3 * quads) {
    sum_element<float>(sum, thread + 3 * quads);
  }
}

inline void sum_on_host(const OrderedSum& sum) {
  const bool wide = is_wide(sum);
  for (std::int64_t thread = 0; thread < sum_threads(sum, wide); ++thread) sum_of_thread(sum, wide, thread);
}

// Queues the sum on `stream`, a cudaStream_t of the calling thread's device. Returns null, or what CUDA says
// is wrong.
const char* sum_on_device(const OrderedSum& sum, void* stream);

}  // namespace autoglm
