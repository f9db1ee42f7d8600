#include "sharding/memory/category.h"
#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm::ops {

using cuda::run;

namespace {

// How a norm's backward goes over its rows. Without gradients of parameters a block needs no other rows' sums.
struct NormBlocks {
  NormBlocks(const at::Tensor& x, bool sums)
      : block_rows(sums ? cuda::kNormBlockRows : 1), count(cuda::blocks_for(x.size(0), block_rows)) {}

  std::int64_t block_rows;
  std::int64_t count;
};

// Scratch space [blocks, H] for what each block adds to a parameter's gradient; undefined when none is wanted.
at::Tensor block_sums(const at::Tensor& x, const NormBlocks& blocks, const GradientBuffer& gradient) {
  const CategoryScope scope(MemoryCategory::workspace);
  if (!gradient.defined()) return {};
  return at::empty({blocks.count, x.size(1)}, x.options().dtype(at::kFloat));
}

float* pointer_if_defined(const at::Tensor& sums) {
  return sums.defined() ? write_pointer<float>(sums) : nullptr;
}

}  // namespace

void rms_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, double epsilon, at::Tensor& y,
                           at::Tensor& rstd) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x}, {y, rstd});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), write_pointer<T>(y),
                                write_pointer<float>(rstd), x.size(1), static_cast<float>(epsilon)},
        x.size(0), x);
  });
}

void rms_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                         at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x, rstd}, {y});
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::RmsNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<float>(rstd),
                              write_pointer<T>(y), x.size(1)},
        x.size(0), x);
  });
}

void rms_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight) {
  const NormBlocks blocks(x, dweight.defined());
  const at::Tensor sums = block_sums(x, blocks, dweight);
  if (computes(x)) {
    with_activation_type(x, [&](auto type) {
      using T = decltype(type);
      run(cuda::RmsNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight),
                                   read_pointer<float>(rstd), write_pointer<T>(dx), pointer_if_defined(sums),
                                   x.size(0), blocks.block_rows, x.size(1)},
          blocks.count, x);
    });
  } else {
    count_kernel(WorkKind::norms, {dy, x, rstd}, {dx, sums});
  }
  if (dweight.defined()) add_partial_sums_cuda(WorkKind::norms, sums, dweight);
}

void layer_norm_forward_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon, at::Tensor& y, at::Tensor& statistics) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x}, {y, statistics});
  const std::int64_t rows = x.size(0);
  auto* means = write_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormForward<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias),
                                  write_pointer<T>(y), means, means + rows, x.size(1),
                                  static_cast<float>(epsilon)},
        rows, x);
  });
}

void layer_norm_again_cuda(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           const at::Tensor& statistics, at::Tensor& y) {
  if (!computes(x)) return count_kernel(WorkKind::norms, {x, statistics}, {y});
  const std::int64_t rows = x.size(0);
  const auto* means = read_pointer<float>(statistics);
  with_activation_type(x, [&](auto type) {
    using T = decltype(type);
    run(cuda::LayerNormAgain<T>{read_pointer<T>(x), read_pointer<T>(weight), read_pointer<T>(bias), means,
                                means + rows, write_pointer<T>(y), x.size(1)},
        rows, x);
  });
}

void layer_norm_backward_cuda(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& statistics, at::Tensor& dx, const GradientBuffer& dweight,
                              const GradientBuffer& dbias) {
  const NormBlocks blocks(x, dweight.defined() || dbias.defined());
  const at::Tensor weight_sums = block_sums(x, blocks, dweight), bias_sums = block_sums(x, blocks, dbias);
  if (computes(x)) {
    const std::int64_t rows = x.size(0);
    const auto* means = read_pointer<float>(statistics);
    with_activation_type(x, [&](auto type) {
      using T = decltype(type);
      run(cuda::LayerNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight), means,
                                     means + rows, write_pointer<T>(dx), pointer_if_defined(weight_sums),
                                     pointer_if_defined(bias_sums), rows, blocks.block_rows, x.size(1)},
          blocks.count, x);
    });
  } else {
    count_kernel(WorkKind::norms, {dy, x, statistics}, {dx, weight_sums, bias_sums});
  }
  if (dweight.defined()) add_partial_sums_cuda(WorkKind::norms, weight_sums, dweight);
  if (dbias.defined()) add_partial_sums_cuda(WorkKind::norms, bias_sums, dbias);
}

}  // namespace autoglm::ops
