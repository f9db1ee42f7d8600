#include "trainer/ops/norm_cuda.h"

#include "sharding/memory/category.h"
#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm::ops {

using cuda::run;

NormBlocks::NormBlocks(const at::Tensor& x, bool sums)
    : block_rows(sums ? cuda::kNormBlockRows : 1), count(cuda::blocks_for(x.size(0), block_rows)) {}

BlockSums::BlockSums(const at::Tensor& x, const NormBlocks& blocks, const GradientBuffer& gradient) {
  const CategoryScope scope(MemoryCategory::workspace);
  if (gradient.defined()) values = at::empty({blocks.count, x.size(1)}, x.options().dtype(at::kFloat));
}

float* BlockSums::pointer() const {
  return values.defined() ? write_pointer<float>(values) : nullptr;
}

void BlockSums::add_to(const GradientBuffer& gradient) const {
  if (values.defined()) add_partial_sums_cuda(WorkKind::norms, values, gradient);
}

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
                            const at::Tensor& rstd, at::Tensor& dx, const GradientBuffer& dweight,
                            const at::Tensor& more) {
  const NormBlocks blocks(x, dweight.defined());
  const BlockSums sums(x, blocks, dweight);
  if (computes(x)) {
    with_activation_type(x, [&](auto type) {
      using T = decltype(type);
      run(cuda::RmsNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight),
                                   read_pointer<float>(rstd),
                                   more.defined() ? read_pointer<T>(more) : nullptr, write_pointer<T>(dx),
                                   sums.pointer(), x.size(0), blocks.block_rows, x.size(1)},
          blocks.count, x);
    });
  } else {
    count_kernel(WorkKind::norms, {dy, x, rstd, more}, {dx, sums.values});
  }
  sums.add_to(dweight);
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
                              const GradientBuffer& dbias, const at::Tensor& more) {
  const NormBlocks blocks(x, dweight.defined() || dbias.defined());
  const BlockSums weight_sums(x, blocks, dweight), bias_sums(x, blocks, dbias);
  if (computes(x)) {
    const std::int64_t rows = x.size(0);
    const auto* means = read_pointer<float>(statistics);
    with_activation_type(x, [&](auto type) {
      using T = decltype(type);
      run(cuda::LayerNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(x), read_pointer<T>(weight), means,
                                     means + rows, more.defined() ? read_pointer<T>(more) : nullptr,
                                     write_pointer<T>(dx), weight_sums.pointer(), bias_sums.pointer(), rows,
                                     blocks.block_rows, x.size(1)},
          blocks.count, x);
    });
  } else {
    count_kernel(WorkKind::norms, {dy, x, statistics, more}, {dx, weight_sums.values, bias_sums.values});
  }
  weight_sums.add_to(dweight);
  bias_sums.add_to(dbias);
}

}  // namespace autoglm::ops
