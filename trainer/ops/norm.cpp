#include "trainer/ops/norm.h"

#include "trainer/ops/graph.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm::ops {
namespace {

struct NormNode final : Node {
  at::Tensor x;
  at::Tensor statistics;
  Norm norm;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const at::Tensor dy = gradients[0].reshape({x.size(0), x.size(1)}).contiguous();
    return {norm_backward(dy, x, statistics, norm).view(shape)};
  }
  void release_variables() override {
    x.reset();
    statistics.reset();
  }
};

}  // namespace

NormResult norm_forward(const at::Tensor& x, const Norm& norm) {
  if (norm.kind == NormKind::none) return {x, {}};
  return norm.kind == NormKind::rms ? rms_norm_forward(x, norm) : layer_norm_forward(x, norm);
}

at::Tensor norm_again(const at::Tensor& x, const at::Tensor& statistics, const Norm& norm) {
  if (norm.kind == NormKind::none) return x;
  return norm.kind == NormKind::rms ? rms_norm_again(x, statistics, norm)
                                    : layer_norm_again(x, statistics, norm);
}

at::Tensor norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics,
                         const Norm& norm) {
  if (norm.kind == NormKind::none) return dy;
  return norm.kind == NormKind::rms ? rms_norm_backward(dy, x, statistics, norm)
                                    : layer_norm_backward(dy, x, statistics, norm);
}

at::Tensor normalize(const at::Tensor& x, const Norm& norm) {
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  const at::Tensor flat = x.detach().reshape({-1, x.size(-1)}).contiguous();
  NormResult result = norm_forward(flat, norm);
  at::Tensor y = result.y.view(x.sizes());
  if (record) {
    auto node = make_node<NormNode>({x});
    node->x = flat;
    node->statistics = result.statistics;
    node->norm = norm;
    node->shape = x.sizes().vec();
    attach(y, node);
  }
  return y;
}

}  // namespace autoglm::ops
