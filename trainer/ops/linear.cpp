#include "trainer/ops/linear.h"

#include "trainer/ops/adjoining.h"
#include "trainer/ops/graph.h"
#include "trainer/ops/relu.h"
#include "trainer/ops/swiglu.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

std::vector<std::int64_t> with_last(at::IntArrayRef shape, std::int64_t last) {
  std::vector<std::int64_t> result = shape.vec();
  result.back() = last;
  return result;
}

// [..., N] each as rows: dense, or for the CUDA route neighbouring columns of one matrix.
std::vector<at::Tensor> rows_of_all(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> rows;
  for (const at::Tensor& tensor : tensors) rows.push_back(tensor.detach().reshape({-1, tensor.size(-1)}));
  const bool on_cuda = target_of(rows.front()) == Target::cuda;
  if (on_cuda && rows.size() > 1 && joined_columns(rows).defined()) return rows;
  for (at::Tensor& one : rows) one = one.contiguous();
  return rows;
}

std::vector<at::Tensor> gradient_rows(variable_list& gradients) {
  for (const at::Tensor& gradient : gradients)
    AUTOGLM_CHECK(gradient.defined(), "an output of a linear layer was not used");
  std::vector<at::Tensor> rows = rows_of_all(gradients);
  for (at::Tensor& gradient : gradients) gradient.reset();
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
  Joined joined;      // with normed.y undefined: it is rebuilt
  at::Tensor branch;  // where it has a norm
  bool joins = false;
  Norm after, norm;
  std::vector<Projection> projections;
  std::vector<std::int64_t> shape;

  // Gradients of the stream, which may be unused, and of the outputs.
  variable_list apply(variable_list&& gradients) override {
    at::Tensor dstream = std::exchange(gradients.front(), at::Tensor());
    if (dstream.defined()) dstream = dstream.reshape({-1, shape.back()}).contiguous();
    gradients.erase(gradients.begin());
    std::vector<at::Tensor> dy = gradient_rows(gradients);
    at::Tensor input = std::exchange(joined.normed.y, at::Tensor());
    if (!input.defined()) input = norm_again(joined.sum, joined.normed.statistics, norm);
    at::Tensor dinput = project_backward(dy, input, projections, true);
    input.reset();
    dy.clear();
    const JoinGradients result = join_backward(std::move(dinput), dstream, joined, branch, after, norm);
    if (!joins) return {result.sum.view(shape)};
    return {result.sum.view(shape), result.branch.view(shape)};
  }
  void release_variables() override {
    joined = {};
    branch.reset();
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

NormLinear norm_linear(Residual residual, const Norm& norm, std::span<const Projection> projections,
                       bool keep_input) {
  const bool record = recording({residual.stream, residual.branch}), joins = residual.branch.defined();
  const at::NoGradGuard no_grad;
  const std::vector<std::int64_t> shape = residual.stream.sizes().vec();
  std::shared_ptr<NormLinearNode> node;
  if (record) {
    node = joins ? make_node<NormLinearNode>({residual.stream, residual.branch})
                 : make_node<NormLinearNode>({residual.stream});
    node->joins = joins;
    node->after = residual.after;
    if (joins && residual.after.kind != NormKind::none) node->branch = rows_of(residual.branch);
  }
  Joined joined;
  if (joins) {
    joined = join_forward(rows_of(residual.stream), rows_of(residual.branch), residual.after, norm);
  } else {
    joined.sum = rows_of(residual.stream);
    joined.normed = norm_forward(joined.sum, norm);
  }
  residual = {};  // what nothing keeps is gone before the products
  NormLinear result{joined.sum.view(shape), project(joined.normed.y, projections)};
  for (at::Tensor& output : result.outputs) output = output.view(with_last(shape, output.size(1)));
  if (record) {
    if (!keep_input) joined.normed.y.reset();
    node->joined = std::move(joined);
    node->norm = norm;
    node->projections.assign(projections.begin(), projections.end());
    node->shape = shape;
    attach(result.stream, node);
    for (at::Tensor& output : result.outputs) attach(output, node);
  }
  return result;
}

at::Tensor swiglu_linear(const std::vector<at::Tensor>& gate_up, const Projection& projection,
                         bool keep_input) {
  const bool record = recording({gate_up.front(), gate_up.back()});
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat = rows_of_all(gate_up);
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
