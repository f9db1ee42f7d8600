// Which device's allocations an op makes.
#pragma once

#include <ATen/core/Tensor.h>

namespace autoglm::ops {

enum class Target { cpu, cuda };

// The device that meta tensors stand for in this thread's rehearsal (cpu unless set).
Target rehearsal_target();
void set_rehearsal_target(Target target);

// Target of a tensor: its device's, or the rehearsal's for a meta tensor.
Target target_of(const at::Tensor& tensor);
Target target_of(at::Device device);

// True when there are values to compute: false on meta, where only shapes and allocations count.
inline bool computes(const at::Tensor& tensor) {
  return !tensor.is_meta();
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

}  // namespace autoglm::ops
