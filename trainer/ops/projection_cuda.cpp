#include "trainer/ops/projection_cuda.h"

#include "sharding/memory/category.h"
#include "trainer/ops/column_sums_cuda.h"
#include "trainer/ops/product_cuda.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

// Rows of dx whose fp32 sum over several projections is held at a time: enough to fill a GPU, small beside
// the activations.
constexpr std::int64_t kTileRows = 2048;

void sum_of_products(std::span<const at::Tensor> dy, std::span<const Projection> projections,
                     const at::Tensor& dx, const at::Tensor& sum) {
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const at::Tensor& weight = projections[i].weight->weight();
    if (i == 0) {
      product_cuda(dy[i], weight, sum);
    } else {
      add_product_cuda(dy[i], weight, sum);
    }
  }
  if (!sum.is_same(dx)) dx.copy_(sum);
}

// One projection is rounded by its own product; several are summed in fp32 first.
void input_gradient(std::span<const at::Tensor> dy, std::span<const Projection> projections, at::Tensor& dx) {
  if (projections.size() == 1 || dx.scalar_type() == at::kFloat) {
    if (computes(dx)) sum_of_products(dy, projections, dx, dx);
    return;
  }
  const CategoryScope scope(MemoryCategory::workspace);
  const std::int64_t m = dx.size(0);
  const at::Tensor sum = at::empty({std::min(m, kTileRows), dx.size(1)}, dx.options().dtype(at::kFloat));
  if (!computes(dx)) return;
  for (std::int64_t row = 0; row < m; row += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, m - row);
    std::vector<at::Tensor> tiles;
    for (const at::Tensor& gradient : dy) tiles.push_back(gradient.narrow(0, row, rows));
    sum_of_products(tiles, projections, dx.narrow(0, row, rows), sum.narrow(0, 0, rows));
  }
}

}  // namespace

void project_cuda(const at::Tensor& x, std::span<const Projection> projections,
                  std::vector<at::Tensor>& outputs) {
  if (!computes(x)) return;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const at::Tensor weight = projections[i].weight->weight().t();
    if (projections[i].bias != nullptr) {
      product_with_bias_cuda(x, weight, projections[i].bias->weight(), outputs[i]);
    } else {
      product_cuda(x, weight, outputs[i]);
    }
  }
}

void project_backward_cuda(std::span<const at::Tensor> dy, const at::Tensor& x,
                           std::span<const Projection> projections, at::Tensor& dx) {
  if (dx.defined()) input_gradient(dy, projections, dx);
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const Parameter& weight = *projections[i].weight;
    if (weight.trainable() && computes(x)) add_product_cuda(dy[i].t(), x, weight.gradient());
    const Parameter* bias = projections[i].bias;
    if (bias != nullptr && bias->trainable()) add_column_sums_cuda(dy[i], {}, {}, bias->gradient());
  }
}

}  // namespace autoglm::ops
