// Ops beside plain formulas in fp64 that autograd differentiates.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "trainer/ops/parameter.h"

namespace autoglm::reference {

using Tensors = std::vector<at::Tensor>;

// A parameter with a random weight and a gradient buffer that already holds something, to which ops must add.
struct TestParameter {
  Parameter handle;
  at::Tensor gradient_before;

  TestParameter(const std::string& name, std::vector<std::int64_t> shape, at::ScalarType type,
                double center = 0, double scale = 0.5)
      : handle(ParameterSpec{name, shape}) {
    handle.bind_weight((at::randn(shape, at::kDouble) * scale + center).to(type));
    gradient_before = at::randn(shape, at::kFloat) * 0.01;
    handle.bind_gradient(gradient_before.clone());
  }

  at::Tensor added_gradient() const {
    return handle.gradient().to(at::kDouble) - gradient_before.to(at::kDouble);
  }
};

inline at::Tensor random_tensor(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape, at::kDouble).to(type);
}

// Relative to the largest value of the expected tensor.
inline void expect_near(const at::Tensor& actual, const at::Tensor& expected, double tolerance,
                        const std::string& what) {
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const double largest = expected.abs().max().item<double>();
  const double difference = (actual.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  EXPECT_LE(difference, tolerance * largest + 1e-12) << what << ", largest value " << largest;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}

inline double tolerance_of(at::ScalarType type) {
  return type == at::kFloat ? 1e-5 : 1.2e-2;
}

// Runs `ours` on leaves of the inputs, and `formula` on fp64 copies of them and of the weights; compares the
// values, the inputs' gradients, and what was added to the parameters' gradients. Returns ours: output, then
// the inputs' gradients.
inline Tensors compare(
    const Tensors& inputs, const std::vector<TestParameter*>& parameters,
    const std::function<at::Tensor(const Tensors&)>& ours,
    const std::function<at::Tensor(const Tensors& inputs, const Tensors& weights)>& formula) {
  const at::AutoGradMode mode(true);
  Tensors leaves, exact, weights;
  for (const at::Tensor& input : inputs) {
    leaves.push_back(input.detach().clone().requires_grad_(true));
    exact.push_back(input.detach().to(at::kDouble).clone().requires_grad_(true));
  }
  for (const TestParameter* parameter : parameters) {
    weights.push_back(parameter->handle.weight().to(at::kDouble).clone().requires_grad_(true));
  }
  const at::Tensor actual = ours(leaves), expected = formula(exact, weights);
  const double tolerance = tolerance_of(actual.scalar_type());
  expect_near(actual.detach(), expected.detach(), tolerance, "value");
  const at::Tensor gradient = random_tensor(expected.sizes(), actual.scalar_type());
  actual.backward(gradient);
  expected.backward(gradient.to(at::kDouble));
  Tensors results{actual.detach()};
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    expect_near(leaves[i].grad(), exact[i].grad(), 2 * tolerance, fmt::format("gradient of input {}", i));
    results.push_back(leaves[i].grad());
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    expect_near(parameters[i]->added_gradient(), weights[i].grad(), 2 * tolerance,
                parameters[i]->handle.name());
  }
  return results;
}

inline at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * at::rsqrt(x.pow(2).mean(-1, true) + epsilon) * weight;
}

inline at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             double epsilon) {
  const at::Tensor centered = x - x.mean(-1, true);
  return centered * at::rsqrt(centered.pow(2).mean(-1, true) + epsilon) * weight + bias;
}

}  // namespace autoglm::reference
