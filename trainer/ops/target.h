// Which device's allocations an op makes.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

namespace autoglm::ops {

enum class Target { cpu, cuda };

// The device that meta tensors stand for in this thread's rehearsal (cpu unless set).
Target rehearsal_target();
void set_rehearsal_target(Target target);

// How many multiprocessors the rehearsed CUDA device has, whose number some workspaces follow. As it stands: those
// of an H100 or H200; most others have fewer.
inline constexpr int kCommonMultiprocessors = 132;
int rehearsal_multiprocessors();
void set_rehearsal_multiprocessors(int multiprocessors);

// Whether copies from pageable memory of the host to the device wait until they are done: for devices that read
// such memory themselves, maybe after the call. Others have it staged by the driver before the call returns.
bool uploads_wait();
void set_uploads_wait(bool wait);

// Target of a tensor: its device's, or the rehearsal's for a meta tensor.
Target target_of(const at::Tensor& tensor);
Target target_of(at::Device device);

// The route of an op that allocates and computes as x's target does.
template <typename Route>
Route* route(const at::Tensor& x, Route* cpu, Route* cuda) {
  return target_of(x) == Target::cuda ? cuda : cpu;
}

// True when there are values to compute: false on meta, where only shapes and allocations count.
inline bool computes(const at::Tensor& tensor) {
  return !tensor.is_meta();
}

// Whether an op that allocates nothing has something to do: to compute, or to declare a kernel's work.
inline bool runs(const at::Tensor& tensor) {
  return computes(tensor) || target_of(tensor) == Target::cuda;
}

// Dispatches on the storage type of activations: calls f with a value of type float or simd::bf16_bits.
template <typename F>
void with_activation_type(const at::Tensor& tensor, F f);

}  // namespace autoglm::ops

#include "trainer/simd/kernels.h"

namespace autoglm::ops {

template <typename F>
void with_activation_type(const at::Tensor& tensor, F f) {
  if (tensor.scalar_type() == at::kBFloat16) {
    f(simd::bf16_bits{});
  } else {
    f(float{});
  }
}

// Pointers to a contiguous tensor's elements.
template <typename T>
const T* read_pointer(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <typename T>
T* write_pointer(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Calls f(row) for each of `rows` rows, from all threads; each takes at least `grain` rows, in order.
template <typename F>
void for_each_row(std::int64_t rows, std::int64_t grain, F f) {
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace autoglm::ops
