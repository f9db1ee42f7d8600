// Runs the project's device code: a grid of blocks of threads.
#pragma once

#include <functional>

#include "tests/cuda_on_host/runtime/kernels.h"

namespace cuda_on_host {

// Every thread of a block as a fiber, with barriers and shuffles.
void run_grid(const Launch& launch, const std::function<void()>& thread);

// For device code whose threads never meet: one after the other.
void run_threads(const Launch& launch, const std::function<void()>& thread);

}  // namespace cuda_on_host
