#include "trainer/ops/column_sums_cuda.h"

#include "sharding/memory/category.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"

namespace autoglm::ops {

using cuda::blocks_for;
using cuda::run;

void add_column_sums_cuda(WorkKind kind, const at::Tensor& y, const GradientBuffer& gradient) {
  const std::int64_t rows = y.size(0), width = y.size(1), slabs = blocks_for(rows, cuda::kSlabRows);
  const CategoryScope scope(MemoryCategory::workspace);
  at::Tensor partial = at::empty({slabs, width}, y.options().dtype(at::kFloat));
  if (computes(y)) {
    with_activation_type(y, [&](auto type) {
      using T = decltype(type);
      const cuda::SlabSums<T> kernel(read_pointer<T>(y), write_pointer<float>(partial), rows, width,
                                     y.stride(0));
      run(kernel, kernel.blocks(), y);
    });
  } else {
    count_kernel(kind, {y}, {partial});
  }
  add_partial_sums_cuda(kind, partial, gradient);
}

void add_partial_sums_cuda(WorkKind kind, const at::Tensor& partial, const GradientBuffer& gradient) {
  if (!computes(partial)) {
    return count_kernel(kind, {partial, gradient.fresh ? at::Tensor() : gradient.values}, {gradient.values});
  }
  const std::int64_t width = partial.size(1);
  run(cuda::AddSlabs{read_pointer<float>(partial), write_pointer<float>(gradient.values), partial.size(0),
                     width, gradient.fresh},
      blocks_for(width, cuda::kThreads), partial);
}

}  // namespace autoglm::ops
