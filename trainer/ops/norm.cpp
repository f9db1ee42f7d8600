#include "trainer/ops/norm.h"

#include "trainer/ops/graph.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/rms_norm.h"
#include "trainer/ops/target.h"

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
  const bool rms = norm.kind == NormKind::rms;
  const at::TensorOptions fp32 = x.options().dtype(at::kFloat);
  NormResult result{at::empty_like(x), rms ? at::empty({x.size(0)}, fp32) : at::empty({2, x.size(0)}, fp32)};
  if (!runs(x)) return result;
  const at::Tensor& weight = norm.weight->weight();
  if (rms) {
    route(x, rms_norm_forward_cpu, rms_norm_forward_cuda)(x, weight, norm.epsilon, result.y,
                                                          result.statistics);
  } else {
    route(x, layer_norm_forward_cpu, layer_norm_forward_cuda)(x, weight, norm.bias->weight(), norm.epsilon,
                                                              result.y, result.statistics);
  }
  return result;
}

at::Tensor norm_again(const at::Tensor& x, const at::Tensor& statistics, const Norm& norm) {
  if (norm.kind == NormKind::none) return x;
  at::Tensor y = at::empty_like(x);
  if (!runs(x)) return y;
  const at::Tensor& weight = norm.weight->weight();
  if (norm.kind == NormKind::rms) {
    route(x, rms_norm_again_cpu, rms_norm_again_cuda)(x, weight, statistics, y);
  } else {
    route(x, layer_norm_again_cpu, layer_norm_again_cuda)(x, weight, norm.bias->weight(), statistics, y);
  }
  return y;
}

at::Tensor norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics,
                         const Norm& norm) {
  if (norm.kind == NormKind::none) return dy;
  at::Tensor dx = at::empty_like(x);
  const at::Tensor& weight = norm.weight->weight();
  const GradientBuffer dweight = norm.weight->take_gradient_if_trainable();
  if (norm.kind == NormKind::rms) {
    if (target_of(x) == Target::cuda) {
      rms_norm_backward_cuda(dy, x, weight, statistics, dx, dweight);
    } else {
      rms_norm_backward_cpu(dy, x, weight, statistics, dx, dweight);
    }
  } else {
    const GradientBuffer dbias = norm.bias->take_gradient_if_trainable();
    if (target_of(x) == Target::cuda) {
      layer_norm_backward_cuda(dy, x, weight, statistics, dx, dweight, dbias);
    } else {
      layer_norm_backward_cpu(dy, x, weight, statistics, dx, dweight, dbias);
    }
  }
  return dx;
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
