// LibTorch's tensors on a CUDA device, placed in an arena of ours.
#pragma once

#include <cstdint>
#include <memory>

#include "sharding/memory/arena.h"

namespace autoglm {

// Prepares `device` for this process's tensors: loads LibTorch's CUDA kernels, makes the device the calling
// thread's, and lets LibTorch allocate from an arena of `limit` bytes. Throws Error(unavailable).
void install_cuda_arena(int device, std::int64_t limit);

// Lets LibTorch allocate its CUDA tensors from `arena`, which also becomes the job's
// (sharding/memory/job_memory.h). Once per process, before the first tensor on CUDA. Memory that is freed is
// reused at once for what is computed next: what other streams read or write must stay alive until they are
// done.
void install_cuda_allocator(std::unique_ptr<Arena> arena, int device);

// Makes LibTorch give every cuBLAS handle a workspace of kCublasWorkspaceBytes, one of the two settings with
// which cuBLAS repeats its results, and has cuBLASLt work in it too. Before the first product on CUDA. Throws Error(usage) when the
// environment holds another setting.
void set_cublas_workspace();

// Loads libtorch_cuda.so from beside the LibTorch in use, before anything asks LibTorch whether it has CUDA.
// It registers its kernels when it is loaded, which takes a second and gigabytes of addresses, so programs
// are not linked to it. Throws Error(unavailable). Later calls do nothing.
void load_libtorch_cuda();

}  // namespace autoglm
