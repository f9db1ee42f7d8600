#include "trainer/states/block_state.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "trainer/ops/target.h"

namespace autoglm {
namespace {

FlatLayout layout_of(const Block& block, int world_size, bool trainable) {
  std::vector<std::int64_t> elements;
  for (const Parameter& parameter : block.parameters()) {
    elements.push_back(parameter.trainable() == trainable ? parameter.spec().num_elements() : 0);
  }
  return FlatLayout(elements, world_size);
}

// Zeroes what of [first, first + flat.numel()) lies between the parameters of a group. The rest is left
// untouched: pages that are written only when they are needed make the first step begin sooner.
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

}  // namespace

at::Tensor allocate_flat(std::int64_t elements, at::ScalarType type, at::Device device,
                         MemoryCategory category, MemoryPool pool) {
  const CategoryScope category_scope(category);
  const PoolScope pool_scope(pool);
  const bool on_host = pool == MemoryPool::host && !device.is_meta();
  return at::empty({elements},
                   at::TensorOptions().dtype(type).device(on_host ? at::Device(at::kCPU) : device));
}

BlockState::BlockState(Block& owner, const StatePlacement& placement)
    : block(&owner),
      layout(layout_of(owner, placement.world_size, true)),
      frozen(layout_of(owner, placement.world_size, false)),
      placement_(placement),
      rank_(placement.rank) {}

ElementRange BlockState::optimizer_range() const {
  return placement_.strategy.shards_optimizer() ? shard() : ElementRange{0, layout.total_elements()};
}

void BlockState::allocate(std::int64_t host_elements, const at::Tensor& kept) {
  const Strategy& strategy = placement_.strategy;
  const at::Device device = placement_.device;
  const at::ScalarType working_type = scalar_type(placement_.precision);
  const at::ScalarType moment_type = strategy.bf16_moments ? at::kBFloat16 : at::kFloat;
  const at::ScalarType gradient_type = strategy.bf16_gradients ? at::kBFloat16 : at::kFloat;
  const bool sharded = strategy.shards_weights();
  working_pool = strategy.weights == WeightSourceKind::host ? MemoryPool::host : MemoryPool::device;
  if (kept.defined()) {
    working = kept;
  } else {
    working = allocate_flat(sharded ? shard_elements() : whole_elements(), working_type, device,
                            MemoryCategory::weights, working_pool);
    const std::int64_t trainable = sharded ? layout.shard_elements() : layout.total_elements();
    clear_padding(working.narrow(0, 0, trainable), layout, sharded ? shard().begin : 0);
    clear_padding(working.narrow(0, trainable, working.numel() - trainable), frozen,
                  sharded ? rank_ * frozen.shard_elements() : 0);
  }
  const ElementRange all = optimizer_range();
  const std::int64_t cut = all.end - host_elements;
  const auto each_pool = [&](auto visit) {
    if (cut > all.begin) visit(ElementRange{all.begin, cut}, MemoryPool::device);
    if (all.end > cut) visit(ElementRange{cut, all.end}, MemoryPool::host);
  };
  each_pool([&](ElementRange range, MemoryPool pool) {
    const auto make = [&](at::ScalarType type) {
      return allocate_flat(range.size(), type, device, MemoryCategory::master, pool);
    };
    OptimizerPart part{range, pool, {}, {}, {}, {}};
    part.is_working = placement_.precision == Precision::fp32 && pool == working_pool;
    if (part.is_working) {
      part.master = working_range(range);
    } else if (strategy.master == MasterLayout::split) {
      part.remainder = make(at::kShort);
    } else {
      part.master = make(at::kFloat);
      clear_padding(part.master, layout, range.begin);
    }
    part.moment1 = make(moment_type);
    part.moment2 = make(moment_type);
    optimizer.push_back(std::move(part));
  });
  each_pool([&](ElementRange range, MemoryPool pool) {
    const ElementRange mine = range.within(shard());
    if (mine.size() == 0) return;
    gradients.push_back(
        {mine, pool, allocate_flat(mine.size(), gradient_type, device, MemoryCategory::gradients, pool)});
  });
  if (strategy.weights == WeightSourceKind::resident) bind_weights(working);
}

at::Tensor BlockState::working_range(ElementRange range) const {
  const std::int64_t first = placement_.strategy.shards_weights() ? shard().begin : 0;
  return working.narrow(0, range.begin - first, range.size());
}

ElementRange BlockState::elements_of(std::size_t index) const {
  const FlatLayout& group = block->parameters()[index].trainable() ? layout : frozen;
  return {group.offset(index), group.offset(index) + group.elements(index)};
}

ElementRange BlockState::held_elements_of(std::size_t index) const {
  const ElementRange all = elements_of(index);
  if (!placement_.strategy.shards_weights()) return all;
  const FlatLayout& group = block->parameters()[index].trainable() ? layout : frozen;
  return all.within({rank_ * group.shard_elements(), (rank_ + 1) * group.shard_elements()});
}

std::int64_t BlockState::working_offset(std::size_t index, std::int64_t element) const {
  const bool sharded = placement_.strategy.shards_weights();
  if (block->parameters()[index].trainable()) return element - (sharded ? shard().begin : 0);
  return sharded ? layout.shard_elements() + element - rank_ * frozen.shard_elements()
                 : layout.total_elements() + element;
}

void BlockState::bind_weights(const at::Tensor& whole) {
  for (std::size_t i = 0; i < block->parameters().size(); ++i) {
    Parameter& parameter = block->parameters()[i];
    if (!whole.defined()) {
      parameter.bind_weight({});
      continue;
    }
    const ElementRange range = elements_of(i);
    const std::int64_t base = parameter.trainable() ? 0 : layout.total_elements();
    parameter.bind_weight(whole.narrow(0, base + range.begin, range.size()).view(parameter.spec().shape));
  }
}

void BlockState::bind_gradients(const at::Tensor& flat) {
  for (std::size_t i = 0; i < block->parameters().size(); ++i) {
    Parameter& parameter = block->parameters()[i];
    if (!parameter.trainable()) continue;
    const ElementRange range = elements_of(i);
    parameter.bind_gradient(flat.defined()
                                ? flat.narrow(0, range.begin, range.size()).view(parameter.spec().shape)
                                : at::Tensor());
  }
}

void BlockState::check_gradient_written(const Parameter& parameter) const {
  const bool written = parameter.take_gradient_written();
  AUTOGLM_CHECK(written || !parameter.trainable(), "{} got no gradient", parameter.name());
}

void BlockState::check_gradients_written() const {
  for (const Parameter& parameter : block->parameters()) check_gradient_written(parameter);
}

std::vector<std::int64_t> host_elements(std::span<const BlockState> states, double fraction) {
  std::int64_t total = 0;
  for (const BlockState& state : states) total += state.optimizer_range().size();
  constexpr auto kUnit = static_cast<double>(FlatLayout::kAlignment);
  std::int64_t left = std::llround(fraction * static_cast<double>(total) / kUnit) * FlatLayout::kAlignment;
  std::vector<std::int64_t> counts(states.size());
  for (std::size_t i = states.size(); i-- > 0;) {
    counts[i] = std::min(left, states[i].optimizer_range().size());
    left -= counts[i];
  }
  return counts;
}

}  // namespace autoglm
