// What a CUDA kernel's code is written against, so that the same source runs in a block of threads and on the
// host. A kernel is a function object: operator()(group, block) does the work of one block; `group` says
// which thread of the block this is and lets its threads meet. A kernel with a kSharedFloats may have the block's
// shared memory, of that many floats: group.shared_floats(count) is null where there is less.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <type_traits>

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

// Bytes that a thread reads or writes at once where they allow it.
inline constexpr int kVectorBytes = 16;
template <typename T>
inline constexpr int kVectorElements = kVectorBytes / static_cast<int>(sizeof(T));

// Neighbouring elements, copied as one: 16 bytes are one instruction of the device. Their address is a multiple of
// their bytes.
template <typename T, int kCount>
struct alignas(kCount * sizeof(T)) Vector {
  T elements[kCount];

  AUTOGLM_HOST_DEVICE float get(int i) const { return load(elements, i); }
  AUTOGLM_HOST_DEVICE void set(int i, float value) { store(elements, i, value); }
};

template <int kCount, typename T>
AUTOGLM_HOST_DEVICE inline Vector<T, kCount> load_vector(const T* x, std::int64_t i) {
  return *reinterpret_cast<const Vector<T, kCount>*>(x + i);
}
template <int kCount, typename T>
AUTOGLM_HOST_DEVICE inline void store_vector(T* x, std::int64_t i, const Vector<T, kCount>& values) {
#ifdef __CUDA_ARCH__
  // An assignment may be compiled as stores of single elements.
  const std::size_t at = __cvta_generic_to_global(x + i);
  if constexpr (sizeof values == sizeof(uint4)) {
    uint4 all;
    memcpy(&all, &values, sizeof all);
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(all.x), "r"(all.y), "r"(all.z),
                 "r"(all.w)
                 : "memory");
    return;
  } else if constexpr (sizeof values == sizeof(uint2)) {
    uint2 all;
    memcpy(&all, &values, sizeof all);
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(at), "r"(all.x), "r"(all.y) : "memory");
    return;
  }
#endif
  *reinterpret_cast<Vector<T, kCount>*>(x + i) = values;
}

// Stores where elements of another type lie, which compilers of the host would take for different memory.
template <int kCount, typename T>
AUTOGLM_HOST_DEVICE inline void store_vector_over(void* x, std::int64_t i, const Vector<T, kCount>& values) {
#ifdef __CUDA_ARCH__
  store_vector(static_cast<T*>(x), i, values);
#else
  memcpy(static_cast<T*>(x) + i, &values, sizeof values);
#endif
}

// Whether vectors can begin at all of these; null is left out.
template <typename... T>
AUTOGLM_HOST_DEVICE inline bool hold_vectors(const T*... x) {
  return ((reinterpret_cast<std::uintptr_t>(x) % kVectorBytes == 0) && ...);
}

// A broken invariant inside a kernel, which `what` names: stops the device, throws on the host. The device writes it to
// stderr when the host waits next, and every later call fails with cudaErrorAssert, which is nobody else's (check_cuda()).
AUTOGLM_HOST_DEVICE inline void require(bool condition, const char* what) {
  if (condition) return;
#ifdef __CUDA_ARCH__
  __assert_fail(what, __FILE_NAME__, __LINE__, "a kernel of autoglm-train");
#else
  throw std::logic_error(what);
#endif
}

// Calls f(i) for every i of [begin, end) that falls to this thread; neighbours take neighbours. i has the type of `end`.
template <typename Group, typename Begin, typename Index, typename F>
AUTOGLM_HOST_DEVICE inline void each(const Group& group, Begin begin, Index end, F f) {
#ifdef __CUDA_ARCH__
#pragma unroll 4
#endif
  for (Index i = begin + group.rank(); i < end; i += group.size()) f(i);
}

// Calls f(i, n) for neighbouring elements [i, i + n) of [begin, end) that fall to this thread; n is a constant,
// std::integral_constant<int, ...>. Where `vectors`, i is a multiple of n = kVectorElements<T> after `begin`, but for a
// rest of single elements at the end; otherwise n is 1.
template <typename T, typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each_vector(const Group& group, std::int64_t begin, std::int64_t end,
                                            bool vectors, F f) {
  constexpr int kCount = kVectorElements<T>;
  std::int64_t rest = begin;
  if (vectors) {
    rest = end - (end - begin) % kCount;
#ifdef __CUDA_ARCH__
#pragma unroll 2
#endif
    for (std::int64_t i = begin + group.rank() * kCount; i < rest; i += group.size() * kCount)
      f(i, std::integral_constant<int, kCount>());
  }
  each(group, rest, end, [&](std::int64_t i) { f(i, std::integral_constant<int, 1>()); });
}

// The same for the elements of a row of `width`, all as vectors or all as single ones. i is an int, which takes fewer
// registers; a thread begins kAtOnce vectors at once.
template <typename T, int kAtOnce = 2, typename Group, typename F>
AUTOGLM_HOST_DEVICE inline void each_of_row(const Group& group, int width, bool vectors, F f) {
  if (vectors) {
    constexpr int kCount = kVectorElements<T>;
#ifdef __CUDA_ARCH__
#pragma unroll(kAtOnce)
#endif
    for (int i = group.rank() * kCount; i < width; i += group.size() * kCount)
      f(i, std::integral_constant<int, kCount>());
  } else {
#ifdef __CUDA_ARCH__
#pragma unroll(kAtOnce)
#endif
    for (int i = group.rank(); i < width; i += group.size()) f(i, std::integral_constant<int, 1>());
  }
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
  float* shared_floats(std::int64_t) const { return nullptr; }
};

}  // namespace autoglm::ops::cuda
