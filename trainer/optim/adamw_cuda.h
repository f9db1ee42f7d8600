// The optimizer's work on CUDA devices; built only with CUDA. Device pointers; asynchronous on `stream`, a
// cudaStream_t; nothing is allocated. Launch errors show in cudaGetLastError().
#pragma once

#include <cstdint>

#include "trainer/optim/adamw_slice.h"

namespace autoglm {

// Updates a run of elements in device memory: the same bits as on the CPU.
void adamw_cuda(const AdamWSlice& slice, const AdamWUpdate& update, void* stream);

// sum += values, or sum = values when `first`; a bf16 sum is rounded to nearest.
void accumulate_cuda(const float* values, void* sum, bool bf16, std::int64_t count, bool first, void* stream);

// sums[p] = sum of squares in fp64 of the p-th piece of `piece` elements, in a fixed order;
// ceil(count / piece) sums.
void squares_cuda(const void* values, bool bf16, std::int64_t count, std::int64_t piece, double* sums,
                  void* stream);

}  // namespace autoglm
