// Kernels by name: what runs in their place.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <string>

#include "tests/cuda_on_host/runtime/device_memory.h"
#include "tests/cuda_on_host/runtime/queue.h"

namespace cuda_on_host {

struct Launch {
  dim3 grid, block;
  std::size_t shared = 0;
};

// Copies the arguments out of the caller's stack, where they are gone when the launch returns.
using Binder = std::function<Work(const Launch&, void** arguments)>;

// By the demangled name without return type and parameters.
void add_kernel(const std::string& name, Binder binder);

// Asked by the whole demangled name for kernels that nobody added; null when it does not know one.
using Finder = std::function<Binder(const std::string& demangled)>;
void add_finder(Finder finder);

template <typename T>
T argument(void** arguments, int i) {
  T value;
  std::memcpy(static_cast<void*>(&value), arguments[i], sizeof value);
  rebase(&value, sizeof value);
  return value;
}

}  // namespace cuda_on_host
