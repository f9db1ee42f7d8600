// What a CUDA kernel's code is written against, so that the same source runs in a block of threads and on the
// host. A kernel is a function object: operator()(group, block) does the work of one block; `group` says
// which thread of the block this is and lets its threads meet.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "base/bf16.h"

namespace autoglm::ops::cuda {

// A bfloat16 as it lies in memory.
using bf16_bits = std::uint16_t;

// Threads of a block, and elements that a block of an elementwise kernel takes.
inline constexpr int kThreads = 256;
inline constexpr std::int64_t kBlockElements = 4 * kThreads;

constexpr std::int64_t blocks_for(std::int64_t count, std::int64_t per_block) {
  return (count + per_block - 1) / per_block;
}

AUTOGLM_HOST_DEVICE inline float load(const float* x, std::int64_t i) {
  return x[i];
}
AUTOGLM_HOST_DEVICE inline float load(const bf16_bits* x, std::int64_t i) {
  return widen_bf16(x[i]);
}

AUTOGLM_HOST_DEVICE inline void store(float* x, std::int64_t i, float value) {
  x[i] = value;
}
AUTOGLM_HOST_DEVICE inline void store(bf16_bits* x, std::int64_t i, float value) {
  x[i] = round_bf16(value);
}

// Stores where elements of another type lie, which compilers would take for different memory.
template <typename T>
AUTOGLM_HOST_DEVICE inline void store_over(void* x, std::int64_t i, float value) {
  T stored;
  store(&stored, 0, value);
  memcpy(static_cast<char*>(x) + i * static_cast<std::int64_t>(sizeof(T)), &stored, sizeof(T));
}

// A broken invariant inside a kernel: stops the device, throws on the host.
AUTOGLM_HOST_DEVICE inline void require(bool condition) {
  if (condition) return;
#ifdef __CUDA_ARCH__
  __trap();
#else
  throw std::logic_error("a CUDA kernel met an index out of range");
#endif
}

// Calls f(i) for every i of [begin, end) that falls to this thread; neighbours take neighbours.
template <typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each(const Group& group, std::int64_t begin, std::int64_t end, F f) {
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
  for (std::int64_t i = begin + group.rank(); i < end; i += group.size()) f(i);
}

// Elementwise kernels: block b takes elements [b * kBlockElements, ...) of `count`.
template <typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each_of_block(const Group& group, std::int64_t block, std::int64_t count,
                                              F f) {
  const std::int64_t begin = block * kBlockElements;
  each(group, begin, begin + kBlockElements < count ? begin + kBlockElements : count, f);
}

// The group of one thread: runs a kernel on the host, block after block.
struct SerialGroup {
  int rank() const { return 0; }
  int size() const { return 1; }
  void sync() const {}
  double sum(double value) const { return value; }
  float maximum(float value) const { return value; }
};

}  // namespace autoglm::ops::cuda
