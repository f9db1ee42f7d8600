#include "trainer/ops/projection_onednn.h"

#include "sharding/memory/category.h"
#include "trainer/ops/products.h"
#include "trainer/ops/target.h"

namespace autoglm::ops {
namespace {

DType dtype_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kBFloat16 ? DType::bfloat16 : DType::float32;
}

const void* data_of(const at::Tensor& tensor) {
  return tensor.const_data_ptr();
}

// y [M, N] = x [M, K] @ weight [N, K]^T + bias.
TiledProduct forward_product(const at::Tensor& x, const at::Tensor& y, const Projection& projection) {
  const std::int64_t m = x.size(0), k = x.size(1), n = y.size(1);
  const DType type = dtype_of(x);
  return TiledProduct({.m = m,
                       .n = n,
                       .k = k,
                       .a = {type, k},
                       .b = {type, k, true},
                       .c = {type, n},
                       .has_bias = projection.bias != nullptr});
}

// dx [M, K] = or += dy [M, N] @ weight [N, K].
TiledProduct input_product(const at::Tensor& dy, std::int64_t k, DType out, bool adds) {
  const std::int64_t m = dy.size(0), n = dy.size(1);
  const DType type = dtype_of(dy);
  return TiledProduct({.m = m, .n = k, .k = n, .a = {type, n}, .b = {type, k}, .c = {out, k}, .adds = adds});
}

// dweight [N, K] = or += dy [M, N]^T @ x [M, K].
TiledProduct weight_product(const at::Tensor& dy, const at::Tensor& x, bool adds) {
  const std::int64_t m = dy.size(0), n = dy.size(1), k = x.size(1);
  const DType type = dtype_of(dy);
  return TiledProduct(
      {.m = n, .n = k, .k = m, .a = {type, n, true}, .b = {type, k}, .c = {DType::float32, k}, .adds = adds});
}

void narrow_all(const at::Tensor& from, at::Tensor& to) {
  const auto& kernels = simd::activation_kernels<simd::bf16_bits>();
  at::parallel_for(0, to.numel(), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
    kernels.narrow(read_pointer<float>(from) + begin, write_pointer<simd::bf16_bits>(to) + begin,
                   end - begin);
  });
}

}  // namespace

bool projects_by_onednn(const at::Tensor& x) {
  if (target_of(x) != Target::cpu || products() == Products::mkl) return false;
  return products() == Products::onednn || dtype_of(x) == DType::float32;
}

void project_onednn(const at::Tensor& x_MK, std::span<const Projection> projections,
                    std::vector<at::Tensor>& outputs) {
  std::vector<TiledProduct> products;
  for (std::size_t i = 0; i < projections.size(); ++i)
    products.push_back(forward_product(x_MK, outputs[i], projections[i]));
  ProductScratch scratch(products, x_MK);
  if (!computes(x_MK)) return;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const Parameter* bias = projections[i].bias;
    scratch.run(products[i], data_of(x_MK), data_of(projections[i].weight->weight()),
                bias == nullptr ? nullptr : data_of(bias->weight()), outputs[i].mutable_data_ptr());
  }
}

void project_backward_onednn(std::span<const at::Tensor> dy, const at::Tensor& x_MK,
                             std::span<const Projection> projections, at::Tensor& dx) {
  const std::int64_t k = x_MK.size(1);
  // Several products are summed in fp32 before they are rounded.
  const bool sums_apart = dx.defined() && projections.size() > 1 && dx.scalar_type() == at::kBFloat16;
  at::Tensor sum = dx;
  if (sums_apart) {
    const CategoryScope scope(MemoryCategory::workspace);
    sum = at::empty(dx.sizes(), dx.options().dtype(at::kFloat));
  }
  std::vector<TiledProduct> products;
  std::vector<GradientBuffer> gradients;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    gradients.push_back(projections[i].weight->take_gradient_if_trainable());
    if (dx.defined()) products.push_back(input_product(dy[i], k, dtype_of(sum), i > 0));
    if (gradients[i].defined()) products.push_back(weight_product(dy[i], x_MK, !gradients[i].fresh));
  }
  ProductScratch scratch(products, x_MK);
  if (!computes(x_MK)) return;
  auto product = products.begin();
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const Parameter& weight = *projections[i].weight;
    if (dx.defined())
      scratch.run(*product++, data_of(dy[i]), data_of(weight.weight()), nullptr, sum.mutable_data_ptr());
    if (gradients[i].defined())
      scratch.run(*product++, data_of(dy[i]), data_of(x_MK), nullptr, gradients[i].values.mutable_data_ptr());
  }
  if (sums_apart) narrow_all(sum, dx);
}

}  // namespace autoglm::ops
