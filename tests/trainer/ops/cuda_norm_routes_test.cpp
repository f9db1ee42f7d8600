// The CUDA routes of norms, alone and around a residual sum, on host tensors.
#include "tests/trainer/ops/cuda_routes.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/norm.h"
#include "trainer/ops/residual.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm {
namespace {

using reference::expect_near;
using reference::random_tensor;
using reference::same_bits;
using reference::TestParameter;

class CudaNormRoutes : public CudaRoutes {};

TEST_P(CudaNormRoutes, RmsNormAsOnTheCpu) {
  for (const std::int64_t width : {3, 129, 704}) {
    TestParameter weight("w", {width}, type(), 1), copy("w", {width}, type(), 1);
    copy.handle.bind_weight(weight.handle.weight());
    copy.handle.bind_gradient(weight.gradient_before.clone());
    const at::Tensor x = random_tensor({150, width}, type()) * 3, dy = random_tensor({150, width}, type());
    const ops::Norm norm{ops::NormKind::rms, &weight.handle, 1e-5};
    const ops::NormResult expected = ops::norm_forward(x, norm);
    at::Tensor y = at::empty_like(x), again = at::empty_like(x), rstd = at::empty_like(expected.statistics);
    ops::rms_norm_forward_cuda(x, weight.handle.weight(), 1e-5, y, rstd);
    ops::rms_norm_again_cuda(x, weight.handle.weight(), rstd, again);
    expect_near(y, expected.y, tolerance(), "y");
    expect_near(rstd, expected.statistics, 1e-6, "rstd");
    EXPECT_TRUE(same_bits(y, again));
    at::Tensor dx = at::empty_like(x), frozen_dx = at::empty_like(x);
    ops::rms_norm_backward_cuda(dy, x, weight.handle.weight(), rstd, dx, copy.handle.gradient());
    ops::rms_norm_backward_cuda(dy, x, weight.handle.weight(), rstd, frozen_dx, {});
    expect_near(dx, ops::norm_backward(dy, x, expected.statistics, norm), tolerance(), "dx");
    expect_near(copy.handle.gradient(), weight.handle.gradient(), 1e-5, "dweight");
    EXPECT_TRUE(same_bits(dx, frozen_dx));
  }
}

TEST_P(CudaNormRoutes, LayerNormAsOnTheCpu) {
  for (const std::int64_t width : {3, 129, 704}) {
    TestParameter weight("w", {width}, type(), 1), bias("b", {width}, type());
    const ops::Norm norm{ops::NormKind::layer, &weight.handle, 1e-5, &bias.handle};
    const at::Tensor x = random_tensor({150, width}, type()) * 3 + 2,
                     dy = random_tensor({150, width}, type());
    const at::Tensor w = weight.handle.weight(), b = bias.handle.weight();
    const ops::NormResult expected = ops::norm_forward(x, norm);
    at::Tensor y = at::empty_like(x), again = at::empty_like(x);
    at::Tensor statistics = at::empty_like(expected.statistics);
    ops::layer_norm_forward_cuda(x, w, b, 1e-5, y, statistics);
    ops::layer_norm_again_cuda(x, w, b, statistics, again);
    expect_near(y, expected.y, tolerance(), "y");
    expect_near(statistics, expected.statistics, 1e-6, "statistics");
    EXPECT_TRUE(same_bits(y, again));
    EXPECT_TRUE(same_bits(expected.y, ops::norm_again(x, expected.statistics, norm)));
    at::Tensor dx = at::empty_like(x), frozen_dx = at::empty_like(x);
    at::Tensor dweight = weight.gradient_before.clone(), dbias = bias.gradient_before.clone();
    ops::layer_norm_backward_cuda(dy, x, w, statistics, dx, dweight, dbias);
    ops::layer_norm_backward_cuda(dy, x, w, statistics, frozen_dx, {}, {});
    expect_near(dx, ops::norm_backward(dy, x, expected.statistics, norm), tolerance(), "dx");
    expect_near(dweight, weight.handle.gradient(), 1e-5, "dweight");
    expect_near(dbias, bias.handle.gradient(), 1e-5, "dbias");
    EXPECT_TRUE(same_bits(dx, frozen_dx));
  }
}

// The norms around a sum: after the branch, and of the sum.
struct Around {
  ops::NormKind after_kind, kind;
};

constexpr Around kArounds[] = {{ops::NormKind::none, ops::NormKind::rms},
                               {ops::NormKind::rms, ops::NormKind::rms},
                               {ops::NormKind::none, ops::NormKind::layer},
                               {ops::NormKind::rms, ops::NormKind::none}};

// Those norms, what they normalize, and the steps of their CUDA routes, one kernel after the other.
struct Steps {
  TestParameter a, n, b;
  ops::Norm after, norm;
  at::Tensor stream, branch;
  at::Tensor own, after_rstd, sum, y, statistics;

  Steps(const Around& around, std::int64_t width, at::ScalarType type)
      : a("after", {width}, type, 1),
        n("norm", {width}, type, 1),
        b("bias", {width}, type),
        after(norm_of(around.after_kind, a)),
        norm(norm_of(around.kind, n)),
        stream(random_tensor({150, width}, type)),
        branch(random_tensor({150, width}, type) * 3) {}

  ops::Norm norm_of(ops::NormKind kind, TestParameter& scale) {
    return kind == ops::NormKind::none ? ops::Norm{} : ops::Norm{kind, &scale.handle, 1e-5, &b.handle};
  }

  void forward() {
    own = branch;
    if (after.kind == ops::NormKind::rms) {
      own = at::empty_like(branch);
      after_rstd = at::empty({150}, at::kFloat);
      ops::rms_norm_forward_cuda(branch, a.handle.weight(), 1e-5, own, after_rstd);
    }
    sum = stream + own;
    y = at::empty_like(sum);
    const at::Tensor& w = n.handle.weight();
    if (norm.kind == ops::NormKind::rms) {
      statistics = at::empty({150}, at::kFloat);
      ops::rms_norm_forward_cuda(sum, w, 1e-5, y, statistics);
    } else if (norm.kind == ops::NormKind::layer) {
      statistics = at::empty({2, 150}, at::kFloat);
      ops::layer_norm_forward_cuda(sum, w, b.handle.weight(), 1e-5, y, statistics);
    }
  }

  // Gradients of the sum and the branch, and those of the parameters: {after, norm, bias}.
  ops::JoinGradients backward(const at::Tensor& dy, const at::Tensor& dstream,
                              const std::vector<at::Tensor>& parameters) const {
    const at::Tensor& w = n.handle.weight();
    at::Tensor dx = at::empty_like(dy);
    if (norm.kind == ops::NormKind::rms) {
      ops::rms_norm_backward_cuda(dy, sum, w, statistics, dx, parameters[1]);
    } else {
      ops::layer_norm_backward_cuda(dy, sum, w, statistics, dx, parameters[1], parameters[2]);
    }
    dx.add_(dstream);
    if (after.kind == ops::NormKind::none) return {dx, dx};
    at::Tensor dbranch = at::empty_like(dx);
    ops::rms_norm_backward_cuda(dx, branch, a.handle.weight(), after_rstd, dbranch, parameters[0]);
    return {dx, dbranch};
  }
};

// A sum with the norms around it in one kernel gives the bits of one kernel after the other.
TEST_P(CudaNormRoutes, JoinsAtOnceToTheBit) {
  for (const std::int64_t width : {3, 704}) {
    for (const Around& around : kArounds) {
      Steps steps(around, width, type());
      steps.forward();
      const ops::Joined joined = ops::join_forward_cuda(steps.stream, steps.branch, steps.after, steps.norm);
      EXPECT_TRUE(same_bits(joined.sum, steps.sum));
      if (steps.after_rstd.defined()) {
        EXPECT_TRUE(same_bits(joined.after_statistics, steps.after_rstd));
      }
      if (around.kind == ops::NormKind::none) continue;
      EXPECT_TRUE(same_bits(joined.normed.y, steps.y));
      EXPECT_TRUE(same_bits(joined.normed.statistics, steps.statistics));

      const at::Tensor dy = random_tensor({150, width}, type()),
                       dstream = random_tensor({150, width}, type());
      const std::vector<at::Tensor> expected_parameters{
          steps.a.gradient_before.clone(), steps.n.gradient_before.clone(), steps.b.gradient_before.clone()};
      const ops::JoinGradients expected = steps.backward(dy, dstream, expected_parameters);
      const ops::JoinGradients gradients =
          ops::join_backward_cuda(dy.clone(), dstream, joined, steps.branch, steps.after, steps.norm);
      EXPECT_TRUE(same_bits(gradients.sum, expected.sum));
      EXPECT_TRUE(same_bits(gradients.branch, expected.branch));
      EXPECT_TRUE(same_bits(steps.a.handle.gradient(), expected_parameters[0]));
      EXPECT_TRUE(same_bits(steps.n.handle.gradient(), expected_parameters[1]));
      EXPECT_TRUE(same_bits(steps.b.handle.gradient(), expected_parameters[2]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaNormRoutes, ::testing::Values(at::kFloat, at::kBFloat16), type_name);

}  // namespace
}  // namespace autoglm
