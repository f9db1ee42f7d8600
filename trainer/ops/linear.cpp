#include "trainer/ops/linear.h"

#include "trainer/ops/adjoining.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/relu.h"
#include "trainer/ops/swiglu.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

at::Tensor rows_of(const at::Tensor& x) {
  return x.detach().reshape({-1, x.size(-1)}).contiguous();
}

std::vector<std::int64_t> with_last(at::IntArrayRef shape, std::int64_t last) {
  std::vector<std::int64_t> result = shape.vec();
  result.back() = last;
  return result;
}

// Dense, or for the CUDA route neighbouring columns of one matrix.
std::vector<at::Tensor> gradient_rows(variable_list& gradients) {
  std::vector<at::Tensor> rows;
  for (at::Tensor& gradient : gradients) {
    AUTOGLM_CHECK(gradient.defined(), "an output of a linear layer was not used");
    rows.push_back(gradient.reshape({-1, gradient.size(-1)}));
    gradient.reset();
  }
  const bool on_cuda = target_of(rows.front()) == Target::cuda;
  if (on_cuda && rows.size() > 1 && joined_columns(rows).defined()) return rows;
  for (at::Tensor& one : rows) one = one.contiguous();
  return rows;
}

struct LinearNode final : Node {
  at::Tensor x;
  Projection projection;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const std::vector<at::Tensor> dy = gradient_rows(gradients);
    const at::Tensor dx = project_backward(dy, x, {&projection, 1}, task_should_compute_output(0));
    return {dx.defined() ? dx.view(shape) : dx};
  }
  void release_variables() override { x.reset(); }
};

struct NormLinearNode final : Node {
  at::Tensor x;
  at::Tensor statistics;
  at::Tensor normed;  // undefined: rebuilt
  Norm norm;
  std::vector<Projection> projections;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const std::vector<at::Tensor> dy = gradient_rows(gradients);
    at::Tensor input = normed.defined() ? normed : norm_again(x, statistics, norm);
    normed.reset();
    const at::Tensor dinput = project_backward(dy, input, projections, true);
    input.reset();
    return {norm_backward(dinput, x, statistics, norm).view(shape)};
  }
  void release_variables() override {
    x.reset();
    statistics.reset();
    normed.reset();
  }
};

struct ReluLinearNode final : Node {
  at::Tensor rectified;
  Projection projection;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const std::vector<at::Tensor> dy = gradient_rows(gradients);
    at::Tensor dx = project_backward(dy, rectified, {&projection, 1}, true);
    relu_backward_in_place(rectified, dx);
    return {dx.view(shape)};
  }
  void release_variables() override { rectified.reset(); }
};

struct SwigluLinearNode final : Node {
  std::vector<at::Tensor> gate_up;
  at::Tensor product;  // undefined: rebuilt
  Projection projection;
  std::vector<std::int64_t> shape;

  variable_list apply(variable_list&& gradients) override {
    const std::vector<at::Tensor> dy = gradient_rows(gradients);
    at::Tensor input = product.defined() ? product : swiglu(gate_up);
    product.reset();
    const at::Tensor dproduct = project_backward(dy, input, {&projection, 1}, true);
    input.reset();
    variable_list result;
    for (const at::Tensor& gradient : swiglu_backward(gate_up, dproduct))
      result.push_back(gradient.view(shape));
    return result;
  }
  void release_variables() override {
    gate_up.clear();
    product.reset();
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const Projection& projection) {
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  const at::Tensor flat = rows_of(x);
  at::Tensor y = project(flat, {&projection, 1})[0];
  y = y.view(with_last(x.sizes(), y.size(1)));
  if (record) {
    auto node = make_node<LinearNode>({x});
    node->x = flat;
    node->projection = projection;
    node->shape = x.sizes().vec();
    attach(y, node);
  }
  return y;
}

std::vector<at::Tensor> norm_linear(const at::Tensor& x, const Norm& norm,
                                    std::span<const Projection> projections, bool keep_input) {
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  const at::Tensor flat = rows_of(x);
  NormResult normed = norm_forward(flat, norm);
  std::vector<at::Tensor> outputs = project(normed.y, projections);
  for (at::Tensor& output : outputs) output = output.view(with_last(x.sizes(), output.size(1)));
  if (record) {
    auto node = make_node<NormLinearNode>({x});
    node->x = flat;
    node->statistics = normed.statistics;
    if (keep_input) node->normed = normed.y;
    node->norm = norm;
    node->projections.assign(projections.begin(), projections.end());
    node->shape = x.sizes().vec();
    for (at::Tensor& output : outputs) attach(output, node);
  }
  return outputs;
}

at::Tensor swiglu_linear(const std::vector<at::Tensor>& gate_up, const Projection& projection,
                         bool keep_input) {
  const bool record = recording({gate_up.front(), gate_up.back()});
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& tensor : gate_up) flat.push_back(rows_of(tensor));
  const at::Tensor product = swiglu(flat);
  at::Tensor y = project(product, {&projection, 1})[0];
  y = y.view(with_last(gate_up.front().sizes(), y.size(1)));
  if (record) {
    auto node = make_node<SwigluLinearNode>(gate_up);
    node->gate_up = std::move(flat);
    if (keep_input) node->product = product;
    node->projection = projection;
    node->shape = gate_up.front().sizes().vec();
    attach(y, node);
  }
  return y;
}

at::Tensor relu_linear(const at::Tensor& x, const Projection& projection) {
  const bool record = recording({x});
  const at::NoGradGuard no_grad;
  at::Tensor flat = rows_of(x);
  relu_in_place(flat);
  at::Tensor y = project(flat, {&projection, 1})[0];
  y = y.view(with_last(x.sizes(), y.size(1)));
  if (record) {
    auto node = make_node<ReluLinearNode>({x});
    node->rectified = flat;
    node->projection = projection;
    node->shape = x.sizes().vec();
    attach(y, node);
  }
  return y;
}

}  // namespace autoglm::ops
