// Gradients of parameters: fresh ones are written as if they were zeros, and weights side by side act as one.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <limits>

#include "tests/trainer/ops/reference.h"
#include "trainer/ops/head.h"
#include "trainer/ops/head_cuda.h"
#include "trainer/ops/layer_norm.h"
#include "trainer/ops/norm.h"
#include "trainer/ops/projection_cuda.h"
#include "trainer/ops/rms_norm.h"

namespace autoglm {
namespace {

using reference::expect_near;
using reference::random_tensor;
using reference::same_bits;
using reference::TestParameter;

class GradientBufferTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  GradientBufferTest() { at::manual_seed(3); }
  at::ScalarType type() const { return GetParam(); }
};

// Runs `backward` with buffers of zeros, and with fresh ones that hold anything.
void expect_fresh_as_zeros(const std::vector<TestParameter*>& parameters,
                           const std::function<void()>& backward) {
  std::vector<at::Tensor> expected;
  for (TestParameter* one : parameters) one->handle.bind_gradient(at::zeros_like(one->gradient_before));
  backward();
  for (TestParameter* one : parameters) {
    expected.push_back(one->handle.gradient());
    one->handle.bind_gradient(at::full_like(one->gradient_before, std::numeric_limits<float>::quiet_NaN()),
                              true);
  }
  backward();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& one = parameters[i]->handle;
    // Zeros may differ in their sign.
    EXPECT_TRUE(same_bits(one.gradient() + 0.0f, expected[i] + 0.0f)) << one.name();
    EXPECT_FALSE(one.take_gradient().fresh) << one.name();
  }
}

TEST_P(GradientBufferTest, FreshOnesAreWrittenAsIfTheyWereZeros) {
  TestParameter norm_weight("norm", {24}, type(), 1), norm_bias("norm bias", {24}, type());
  TestParameter a("a", {12, 24}, type()), b("b", {9, 24}, type()), bias("bias", {9}, type());
  const std::vector<ops::Projection> projections{{&a.handle, nullptr}, {&b.handle, &bias.handle}};
  for (const std::int64_t rows : {7, 2100}) {
    const at::Tensor x = random_tensor({rows, 24}, type()), dnorm = random_tensor({rows, 24}, type());
    const std::vector<at::Tensor> dy{random_tensor({rows, 12}, type()), random_tensor({rows, 9}, type())};
    at::Tensor dx = at::empty_like(x);
    expect_fresh_as_zeros({&a, &b, &bias}, [&] { ops::project_backward(dy, x, projections, true); });
    expect_fresh_as_zeros({&a, &b, &bias}, [&] { ops::project_backward_cuda(dy, x, projections, dx); });
    for (const ops::Norm& norm :
         {ops::Norm{ops::NormKind::rms, &norm_weight.handle, 1e-5},
          ops::Norm{ops::NormKind::layer, &norm_weight.handle, 1e-5, &norm_bias.handle}}) {
      const bool rms = norm.kind == ops::NormKind::rms;
      const ops::NormResult result = ops::norm_forward(x, norm);
      std::vector<TestParameter*> parameters{&norm_weight};
      if (!rms) parameters.push_back(&norm_bias);
      expect_fresh_as_zeros(parameters, [&] { ops::norm_backward(dnorm, x, result.statistics, norm); });
      expect_fresh_as_zeros(parameters, [&] {
        if (rms) {
          ops::rms_norm_backward_cuda(dnorm, x, norm_weight.handle.weight(), result.statistics, dx,
                                      norm_weight.handle.take_gradient());
        } else {
          ops::layer_norm_backward_cuda(dnorm, x, norm_weight.handle.weight(), result.statistics, dx,
                                        norm_weight.handle.take_gradient(), norm_bias.handle.take_gradient());
        }
      });
    }
  }
}

// In one chunk and in several, and with nothing to learn from.
TEST_P(GradientBufferTest, FreshOnesOfTheHead) {
  TestParameter norm_weight("norm", {24}, type(), 1), matrix("head", {33, 24}, type());
  const ops::Head head{{ops::NormKind::rms, &norm_weight.handle, 1e-5}, &matrix.handle};
  const at::Tensor x = random_tensor({20, 24}, type());
  for (const int supervised : {0, 3, 20}) {
    at::Tensor targets = at::full({20}, ops::kIgnoredTarget, at::kInt);
    targets.narrow(0, 0, supervised).fill_(5);
    for (const std::int64_t chunk : {20, 6}) {
      expect_fresh_as_zeros({&norm_weight, &matrix},
                            [&] { ops::head_loss(x, targets, head, chunk, 0.5f, true); });
      expect_fresh_as_zeros({&norm_weight, &matrix},
                            [&] { ops::head_loss_cuda(x, targets, head, chunk, 0.5f, true); });
    }
  }
}

// Weights, biases and gradients in flat buffers; gradients of the outputs apart, or as columns of one matrix.
TEST_P(GradientBufferTest, WeightsSideBySideActAsOne) {
  constexpr std::int64_t kIn = 24, kRows = 70;
  const std::int64_t outs[] = {16, 8, 8};
  const at::Tensor flat = random_tensor({32 * kIn + 32}, type()), before = at::randn({flat.numel()}) * 0.01;
  for (const bool columns : {false, true}) {
    for (const bool fresh : {false, true}) {
      at::Tensor sums =
          fresh ? at::full_like(before, std::numeric_limits<float>::quiet_NaN()) : before.clone();
      std::deque<Parameter> parameters;
      std::vector<ops::Projection> projections;
      std::int64_t row = 0;
      const auto add = [&](std::int64_t first, std::vector<std::int64_t> shape) {
        Parameter& one = parameters.emplace_back(ParameterSpec{"p", shape});
        const std::int64_t size = one.spec().num_elements();
        one.bind_weight(flat.narrow(0, first, size).view(shape));
        one.bind_gradient(sums.narrow(0, first, size).view(shape), fresh);
        return &one;
      };
      for (const std::int64_t out : outs) {
        Parameter* weight = add(row * kIn, {out, kIn});
        projections.push_back({weight, add(32 * kIn + row, {out})});
        row += out;
      }
      const at::Tensor x = random_tensor({kRows, kIn}, type()), all = random_tensor({kRows, 32}, type());
      std::vector<at::Tensor> dy;
      for (std::int64_t i = 0, column = 0; i < 3; column += outs[i++]) {
        const at::Tensor part = all.narrow(1, column, outs[i]);
        dy.push_back(columns ? part : part.contiguous());
      }
      at::Tensor dx = at::empty_like(x);
      ops::project_backward_cuda(dy, x, projections, dx);
      const at::Tensor weights = flat.narrow(0, 0, 32 * kIn).view({32, kIn}).to(at::kDouble);
      const at::Tensor wide = all.to(at::kDouble);
      at::Tensor expected = at::cat({at::matmul(wide.t(), x.to(at::kDouble)).flatten(), wide.sum(0)});
      if (!fresh) expected += before;
      expect_near(dx, at::matmul(wide, weights), type() == at::kFloat ? 2e-6 : 8e-3, "dx");
      expect_near(sums, expected, 1e-5, "gradients");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GradientBufferTest, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return info.param == at::kFloat ? "fp32" : "bf16"; });

}  // namespace
}  // namespace autoglm
