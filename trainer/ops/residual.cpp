#include "trainer/ops/residual.h"

#include <ATen/ops/add.h>

#include "trainer/ops/graph.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// The sum of a stream and the norm of a branch.
struct JoinNode final : Node {
  at::Tensor branch;
  at::Tensor statistics;
  Norm after;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dsum = gradients[0].reshape({branch.size(0), branch.size(1)}).contiguous();
    return {std::move(gradients[0]), norm_backward(dsum, branch, statistics, after).view(shape)};
  }
  void release_variables() override {
    branch.reset();
    statistics.reset();
  }
};

void add_in_place(at::Tensor& sum, const at::Tensor& more) {
  if (!computes(sum)) count_kernel(WorkKind::residuals, {sum, more}, {sum});
  sum.add_(more);
}

at::Tensor plain_sum(const at::Tensor& stream, const at::Tensor& branch) {
  at::Tensor sum = at::add(stream, branch);
  if (!computes(sum)) count_kernel(WorkKind::residuals, {stream, branch}, {sum});
  return sum;
}

bool one_kernel(const at::Tensor& x, const Norm& after, const Norm& norm) {
  return target_of(x) == Target::cuda && joins_at_once(after, norm);
}

}  // namespace

bool joins_at_once(const Norm& after, const Norm& norm) {
  const bool branch_as_it_is = after.kind == NormKind::none;
  if (norm.kind == NormKind::layer) return branch_as_it_is;
  if (norm.kind == NormKind::none) return after.kind == NormKind::rms;
  return branch_as_it_is || after.kind == NormKind::rms;
}

Joined join_forward(const at::Tensor& stream, const at::Tensor& branch, const Norm& after, const Norm& norm) {
  if (one_kernel(stream, after, norm)) return join_forward_cuda(stream, branch, after, norm);
  Joined joined;
  if (after.kind == NormKind::none) {
    joined.sum = plain_sum(stream, branch);
  } else {
    NormResult own = norm_forward(branch, after);
    joined.sum = std::move(own.y);
    joined.after_statistics = std::move(own.statistics);
    add_in_place(joined.sum, stream);
  }
  joined.normed = norm_forward(joined.sum, norm);
  return joined;
}

JoinGradients join_backward(at::Tensor dy, const at::Tensor& dstream, const Joined& joined,
                            const at::Tensor& branch, const Norm& after, const Norm& norm) {
  if (norm.kind != NormKind::none && one_kernel(dy, after, norm))
    return join_backward_cuda(std::move(dy), dstream, joined, branch, after, norm);
  at::Tensor sum = norm_backward(dy, joined.sum, joined.normed.statistics, norm);
  dy.reset();
  if (dstream.defined()) add_in_place(sum, dstream);
  if (after.kind == NormKind::none) return {sum, sum};
  return {sum, norm_backward(sum, branch, joined.after_statistics, after)};
}

at::Tensor join(Residual residual) {
  if (residual.after.kind == NormKind::none) return plain_sum(residual.stream, residual.branch);
  const bool record = recording({residual.stream, residual.branch});
  const at::NoGradGuard no_grad;
  const at::Tensor branch = rows_of(residual.branch);
  Joined joined = join_forward(rows_of(residual.stream), branch, residual.after, {});
  at::Tensor sum = joined.sum.view(residual.stream.sizes());
  if (record) {
    auto node = make_node<JoinNode>({residual.stream, residual.branch});
    node->branch = branch;
    node->statistics = joined.after_statistics;
    node->after = residual.after;
    node->shape = residual.branch.sizes().vec();
    attach(sum, node);
  }
  return sum;
}

}  // namespace autoglm::ops
