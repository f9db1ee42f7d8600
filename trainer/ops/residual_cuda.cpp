#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/norm_cuda.h"
#include "trainer/ops/residual.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm::ops {
namespace {

using cuda::run;

template <typename T>
cuda::RmsNormOf<T> rms_norm_of(const Norm& norm, const at::Tensor& rstd) {
  if (norm.kind == NormKind::none) return {};
  return {read_pointer<T>(norm.weight->weight()), write_pointer<float>(rstd),
          static_cast<float>(norm.epsilon)};
}

template <typename T>
cuda::RmsNormGradientOf<T> rms_gradient_of(const Norm& norm, const at::Tensor& rstd, const BlockSums& sums) {
  return {read_pointer<T>(norm.weight->weight()), read_pointer<float>(rstd), sums.pointer()};
}

void join_rms_norm(const at::Tensor& stream, const at::Tensor& branch, const Norm& after, const Norm& norm,
                   const Joined& joined) {
  with_activation_type(stream, [&](auto type) {
    using T = decltype(type);
    const bool normed = norm.kind != NormKind::none;
    run(cuda::JoinRmsNorm<T>{read_pointer<T>(stream), read_pointer<T>(branch),
                             rms_norm_of<T>(after, joined.after_statistics), write_pointer<T>(joined.sum),
                             rms_norm_of<T>(norm, joined.normed.statistics),
                             normed ? write_pointer<T>(joined.normed.y) : nullptr, stream.size(1)},
        stream.size(0), stream);
  });
}

void join_layer_norm(const at::Tensor& stream, const at::Tensor& branch, const Norm& norm,
                     const Joined& joined) {
  auto* means = write_pointer<float>(joined.normed.statistics);
  with_activation_type(stream, [&](auto type) {
    using T = decltype(type);
    run(cuda::JoinLayerNorm<T>{read_pointer<T>(stream), read_pointer<T>(branch), write_pointer<T>(joined.sum),
                               read_pointer<T>(norm.weight->weight()), read_pointer<T>(norm.bias->weight()),
                               write_pointer<T>(joined.normed.y), means, means + stream.size(0),
                               stream.size(1), static_cast<float>(norm.epsilon)},
        stream.size(0), stream);
  });
}

// Through the norm of the sum and that of the branch.
at::Tensor backward_through_both(const at::Tensor& dy, const at::Tensor& dstream, const Joined& joined,
                                 const at::Tensor& branch, const Norm& after, const Norm& norm) {
  const GradientBuffer dweight = norm.weight->take_gradient_if_trainable(),
                       dafter = after.weight->take_gradient_if_trainable();
  const NormBlocks blocks(dy, dweight.defined() || dafter.defined());
  const BlockSums sums(dy, blocks, dweight), after_sums(dy, blocks, dafter);
  const at::Tensor dbranch = at::empty_like(branch);
  const at::Tensor &rstd = joined.normed.statistics, &after_rstd = joined.after_statistics;
  if (computes(dy)) {
    with_activation_type(dy, [&](auto type) {
      using T = decltype(type);
      run(cuda::JoinRmsNormBackward<T>{read_pointer<T>(dy), read_pointer<T>(joined.sum),
                                       rms_gradient_of<T>(norm, rstd, sums),
                                       dstream.defined() ? read_pointer<T>(dstream) : nullptr,
                                       write_pointer<T>(dy), read_pointer<T>(branch),
                                       rms_gradient_of<T>(after, after_rstd, after_sums),
                                       write_pointer<T>(dbranch), dy.size(0), blocks.block_rows, dy.size(1)},
          blocks.count, dy);
    });
  } else {
    count_kernel(WorkKind::norms, {dy, joined.sum, rstd, dstream, branch, after_rstd},
                 {dy, dbranch, sums.values, after_sums.values});
  }
  sums.add_to(dweight);
  after_sums.add_to(dafter);
  return dbranch;
}

}  // namespace

Joined join_forward_cuda(const at::Tensor& stream, const at::Tensor& branch, const Norm& after,
                         const Norm& norm) {
  AUTOGLM_CHECK(joins_at_once(after, norm), "norms around a sum that no kernel knows");
  const std::int64_t rows = stream.size(0);
  const at::TensorOptions fp32 = stream.options().dtype(at::kFloat);
  Joined joined{at::empty_like(stream), {}, {}};
  if (after.kind == NormKind::rms) joined.after_statistics = at::empty({rows}, fp32);
  if (norm.kind == NormKind::none) {
    joined.normed.y = joined.sum;
  } else {
    joined.normed.y = at::empty_like(stream);
    joined.normed.statistics =
        norm.kind == NormKind::rms ? at::empty({rows}, fp32) : at::empty({2, rows}, fp32);
  }
  if (!computes(stream)) {
    const at::Tensor y = norm.kind == NormKind::none ? at::Tensor() : joined.normed.y;
    count_kernel(WorkKind::norms, {stream, branch},
                 {joined.sum, y, joined.normed.statistics, joined.after_statistics});
  } else if (norm.kind == NormKind::layer) {
    join_layer_norm(stream, branch, norm, joined);
  } else {
    join_rms_norm(stream, branch, after, norm, joined);
  }
  return joined;
}

JoinGradients join_backward_cuda(at::Tensor dy, const at::Tensor& dstream, const Joined& joined,
                                 const at::Tensor& branch, const Norm& after, const Norm& norm) {
  AUTOGLM_CHECK(joins_at_once(after, norm), "norms around a sum that no kernel knows");
  if (after.kind == NormKind::rms) {
    const at::Tensor dbranch = backward_through_both(dy, dstream, joined, branch, after, norm);
    return {std::move(dy), dbranch};
  }
  const at::Tensor& weight = norm.weight->weight();
  const GradientBuffer dweight = norm.weight->take_gradient_if_trainable();
  if (norm.kind == NormKind::rms) {
    rms_norm_backward_cuda(dy, joined.sum, weight, joined.normed.statistics, dy, dweight, dstream);
  } else {
    layer_norm_backward_cuda(dy, joined.sum, weight, joined.normed.statistics, dy, dweight,
                             norm.bias->take_gradient_if_trainable(), dstream);
  }
  return {dy, dy};
}

}  // namespace autoglm::ops
