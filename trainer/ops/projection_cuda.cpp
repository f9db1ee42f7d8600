#include "trainer/ops/projection_cuda.h"

#include <algorithm>

#include "sharding/memory/category.h"
#include "trainer/ops/adjoining.h"
#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/ops/kernel_work.h"
#include "trainer/ops/product_cuda.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Rows of dx whose fp32 sum over several projections is held at a time: enough to fill a GPU, small beside
// the activations.
constexpr std::int64_t kTileRows = 2048;

void sum_of_products(std::span<const at::Tensor> dy, std::span<const Projection> projections,
                     const at::Tensor& dx, const at::Tensor& sum) {
  const WorkKind of_sum = sum.is_same(dx) ? WorkKind::products : WorkKind::sums;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const at::Tensor& weight = projections[i].weight->weight();
    if (i == 0) {
      product_cuda(dy[i], weight, sum, of_sum);
    } else {
      add_product_cuda(dy[i], weight, sum, of_sum);
    }
  }
  if (sum.is_same(dx)) return;
  if (!computes(dx)) return count_kernel(of_sum, {sum}, {dx});
  dx.copy_(sum);
}

// Of several projections whose weights lie apart: their products are summed in fp32 before they are rounded.
void input_gradient(std::span<const at::Tensor> dy, std::span<const Projection> projections, at::Tensor& dx) {
  if (dx.scalar_type() == at::kFloat) return sum_of_products(dy, projections, dx, dx);
  const CategoryScope scope(MemoryCategory::workspace);
  const std::int64_t m = dx.size(0);
  const at::Tensor sum = at::empty({std::min(m, kTileRows), dx.size(1)}, dx.options().dtype(at::kFloat));
  for (std::int64_t row = 0; row < m; row += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, m - row);
    std::vector<at::Tensor> tiles;
    for (const at::Tensor& gradient : dy) tiles.push_back(gradient.narrow(0, row, rows));
    sum_of_products(tiles, projections, dx.narrow(0, row, rows), sum.narrow(0, 0, rows));
  }
}

// Gradients that lie side by side, as one; undefined where they do not, or one of them is not wanted.
GradientBuffer joined(std::span<const GradientBuffer> parts) {
  std::vector<at::Tensor> values;
  for (const GradientBuffer& part : parts) {
    if (!part.defined() || part.fresh != parts.front().fresh) return {};
    values.push_back(part.values);
  }
  return {joined_rows(values), parts.front().fresh};
}

// The weights of several projections, or their biases, as one; undefined where they lie apart, one has none, or some are
// trained and others not: whether the trained and the frozen adjoin differs between strategies, whose bits must not.
at::Tensor joined(std::span<const Projection> projections, Parameter* Projection::*part) {
  std::vector<at::Tensor> values;
  for (const Projection& projection : projections) {
    const Parameter *const parameter = projection.*part, *const first = projections.front().*part;
    if (parameter == nullptr || parameter->trainable() != first->trainable()) return {};
    values.push_back(parameter->weight());
  }
  return joined_rows(values);
}

// The weights of several projections, and where their gradients go.
struct Weights {
  std::vector<GradientBuffer> gradients;
  // As one matrix, or undefined.
  at::Tensor all_values;
  GradientBuffer all_gradients;

  explicit Weights(std::span<const Projection> projections) {
    bool any_trained = false;
    for (const Projection& projection : projections) {
      gradients.push_back(projection.weight->take_gradient_if_trainable());
      any_trained |= gradients.back().defined();
    }
    all_gradients = joined(gradients);
    if (all_gradients.defined() || !any_trained) all_values = joined(projections, &Projection::weight);
  }
};

void place_columns(const at::Tensor& from, const at::Tensor& to) {
  if (!computes(from)) return count_kernel(WorkKind::sums, {from}, {to});
  with_activation_type(from, [&](auto type) {
    using T = decltype(type);
    const cuda::PlaceColumns<T> kernel(read_pointer<T>(from), write_pointer<T>(to), from.size(0),
                                       from.size(1), to.stride(0));
    cuda::run(kernel, kernel.tiles.blocks(), from);
  });
}

// Gradients of all outputs as columns of one matrix: they are already, or are copied.
at::Tensor side_by_side(std::span<const at::Tensor> dy) {
  if (dy.size() == 1) return dy.front();
  at::Tensor all = joined_columns(dy);
  if (all.defined()) return all;
  const CategoryScope scope(MemoryCategory::workspace);
  std::int64_t columns = 0;
  for (const at::Tensor& one : dy) columns += one.size(1);
  all = at::empty({dy.front().size(0), columns}, dy.front().options());
  columns = 0;
  for (const at::Tensor& one : dy) {
    place_columns(one, all.narrow(1, columns, one.size(1)));
    columns += one.size(1);
  }
  return all;
}

// `all` is dy side by side, where that is there.
void bias_gradients(std::span<const at::Tensor> dy, const at::Tensor& all,
                    std::span<const Projection> projections) {
  std::vector<GradientBuffer> gradients;
  for (const Projection& projection : projections)
    gradients.push_back(projection.bias == nullptr ? GradientBuffer()
                                                   : projection.bias->take_gradient_if_trainable());
  const GradientBuffer together = joined(gradients);
  if (together.defined() && all.defined() && all.is_contiguous())
    return add_column_sums_cuda(WorkKind::gradients, all, together);
  for (std::size_t i = 0; i < projections.size(); ++i) {
    if (gradients[i].defined()) add_column_sums_cuda(WorkKind::gradients, dy[i], gradients[i]);
  }
}

// x @ weight^T + bias, which may be undefined.
at::Tensor product_with(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  if (bias.defined()) {
    product_with_bias_cuda(x, weight.t(), bias, y);
  } else {
    product_cuda(x, weight.t(), y);
  }
  return y;
}

}  // namespace

std::vector<at::Tensor> project_cuda(const at::Tensor& x, std::span<const Projection> projections) {
  const bool biased = std::ranges::any_of(projections, [](const Projection& p) { return p.bias != nullptr; });
  const at::Tensor weights = joined(projections, &Projection::weight);
  const at::Tensor biases = biased ? joined(projections, &Projection::bias) : at::Tensor();
  std::vector<at::Tensor> outputs;
  if (weights.defined() && biases.defined() == biased) {
    const at::Tensor all = product_with(x, weights, biases);
    std::int64_t column = 0;
    for (const Projection& projection : projections) {
      const std::int64_t columns = projection.weight->spec().shape[0];
      outputs.push_back(all.narrow(1, column, columns));
      column += columns;
    }
    return outputs;
  }
  for (const Projection& projection : projections) {
    const at::Tensor bias = projection.bias == nullptr ? at::Tensor() : projection.bias->weight();
    outputs.push_back(product_with(x, projection.weight->weight(), bias));
  }
  return outputs;
}

void project_backward_cuda(std::span<const at::Tensor> dy, const at::Tensor& x,
                           std::span<const Projection> projections, at::Tensor& dx) {
  const Weights weights(projections);
  at::Tensor all;
  if (weights.all_values.defined()) {
    all = side_by_side(dy);
    if (dx.defined()) product_cuda(all, weights.all_values, dx);
    if (weights.all_gradients.defined()) gradient_product_cuda(all.t(), x, weights.all_gradients);
  } else {
    if (dx.defined()) input_gradient(dy, projections, dx);
    for (std::size_t i = 0; i < projections.size(); ++i) {
      if (weights.gradients[i].defined()) gradient_product_cuda(dy[i].t(), x, weights.gradients[i]);
    }
  }
  bias_gradients(dy, all, projections);
}

}  // namespace autoglm::ops
