#include "trainer/states/flat_weights.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "trainer/ops/target.h"

namespace autoglm {
namespace {

std::vector<std::int64_t> elements_in_group(const Block& block, bool trainable) {
  std::vector<std::int64_t> elements;
  for (const Parameter& parameter : block.parameters()) {
    elements.push_back(parameter.trainable() == trainable ? parameter.spec().num_elements() : 0);
  }
  return elements;
}

}  // namespace

at::Tensor allocate_flat(std::int64_t elements, at::ScalarType type, at::Device device,
                         MemoryCategory category, MemoryPool pool) {
  const CategoryScope category_scope(category);
  const PoolScope pool_scope(pool);
  const bool on_host = pool == MemoryPool::host && !device.is_meta();
  return at::empty({elements},
                   at::TensorOptions().dtype(type).device(on_host ? at::Device(at::kCPU) : device));
}

void clear_padding(const at::Tensor& flat, const FlatLayout& layout, std::int64_t first) {
  if (!ops::computes(flat)) return;
  const std::int64_t last = first + flat.numel();
  std::int64_t end = 0;
  for (std::size_t i = 0; i <= layout.num_parameters(); ++i) {
    const std::int64_t next = i < layout.num_parameters() ? layout.offset(i) : layout.total_elements();
    const ElementRange gap = ElementRange{end, next}.within({first, last});
    if (gap.size() > 0) flat.narrow(0, gap.begin - first, gap.size()).zero_();
    if (i < layout.num_parameters()) end = layout.offset(i) + layout.elements(i);
  }
}

FlatWeights::FlatWeights(const Block& block, bool trainable, int num_shards, int shard)
    : trainable_(trainable), shard_(shard), layout_(elements_in_group(block, trainable), num_shards) {}

ElementRange FlatWeights::shard() const {
  return {shard_ * layout_.shard_elements(), (shard_ + 1) * layout_.shard_elements()};
}

void FlatWeights::allocate(bool sharded, at::ScalarType format, at::Device device, MemoryPool pool) {
  sharded_ = sharded;
  values_ = allocate_flat(held().size(), format, device, MemoryCategory::weights, pool);
  clear_padding(values_, layout_, held().begin);
}

void FlatWeights::take(const FlatWeights& other) {
  sharded_ = other.sharded_;
  values_ = other.values_;
}

void FlatWeights::copy_from(const FlatWeights& other) {
  if (!values_.is_same(other.values_)) values_.copy_(other.range(held()));
}

at::Tensor FlatWeights::range(ElementRange range) const {
  return values_.narrow(0, range.begin - held().begin, range.size());
}

ElementRange FlatWeights::elements_of(std::size_t index) const {
  return {layout_.offset(index), layout_.offset(index) + layout_.elements(index)};
}

template <typename Bind>
void FlatWeights::bind_parameters(Block& block, const at::Tensor& whole, Bind bind) const {
  for (std::size_t i = 0; i < block.parameters().size(); ++i) {
    Parameter& parameter = block.parameters()[i];
    if (parameter.trainable() != trainable_) continue;
    const ElementRange range = elements_of(i);
    bind(parameter, whole.defined() ? whole.narrow(0, range.begin, range.size()).view(parameter.spec().shape)
                                    : at::Tensor());
  }
}

void FlatWeights::bind(Block& block, const at::Tensor& whole) const {
  bind_parameters(block, whole, [](Parameter& one, at::Tensor view) { one.bind_weight(std::move(view)); });
}

void FlatWeights::bind_gradients(Block& block, const at::Tensor& whole, bool fresh) const {
  bind_parameters(block, whole,
                  [&](Parameter& one, at::Tensor view) { one.bind_gradient(std::move(view), fresh); });
}

}  // namespace autoglm
