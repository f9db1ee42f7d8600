#include "trainer/ops/residual.h"

#include <ATen/ops/add.h>

#include "base/error.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

struct BranchNode final : Node {
  variable_list apply(variable_list&& gradients) override {
    AUTOGLM_CHECK(gradients[0].defined() && gradients[1].defined(), "a residual connection was not used");
    at::Tensor sum = std::exchange(gradients[1], at::Tensor());
    if (!computes(sum)) count_kernel(WorkKind::residuals, {sum, gradients[0]}, {sum});
    sum.add_(gradients[0]);
    return {std::move(sum)};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> branch_off(const at::Tensor& x) {
  at::Tensor stream = x.detach(), branch = x.detach();
  if (recording({x})) {
    const auto node = make_node<BranchNode>({x});
    attach(stream, node);
    attach(branch, node);
  }
  return {std::move(stream), std::move(branch)};
}

at::Tensor join(const at::Tensor& stream, const at::Tensor& branch) {
  at::Tensor sum = at::add(stream, branch);
  if (!computes(sum)) count_kernel(WorkKind::residuals, {stream, branch}, {sum});
  return sum;
}

}  // namespace autoglm::ops
