// What the kernels of the CUDA routes declare where they are rehearsed.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "sharding/work.h"

namespace autoglm::ops {

inline std::int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0;
}

inline std::int64_t bytes_of(std::span<const at::Tensor> tensors) {
  std::int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += bytes_of(tensor);
  return bytes;
}

// Counts a kernel that reads and writes tensors once, from end to end. What is as small as a norm's weight or
// stays in the cache, as a rotary table, is left out.
inline void count_kernel(WorkKind kind, const std::vector<at::Tensor>& read,
                         const std::vector<at::Tensor>& written) {
  count_work(kind, {bytes_of(read), bytes_of(written), 1, 0});
}

}  // namespace autoglm::ops
