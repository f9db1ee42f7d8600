#include "trainer/states/block_state.h"

#include <cmath>

namespace autoglm {

BlockState::BlockState(Block& owner, const StatePlacement& placement)
    : block(&owner),
      trained(owner, true, placement.world_size, placement.rank),
      frozen(owner, false, placement.world_size, placement.rank),
      placement_(placement) {}

ElementRange BlockState::optimizer_range() const {
  return placement_.strategy.shards_optimizer() ? shard() : ElementRange{0, trained.total_elements()};
}

void BlockState::allocate(std::int64_t host_elements, const BlockState* kept) {
  const Strategy& strategy = placement_.strategy;
  const at::Device device = placement_.device;
  const at::ScalarType working_type = scalar_type(placement_.precision);
  const at::ScalarType moment_type = strategy.bf16_moments ? at::kBFloat16 : at::kFloat;
  const at::ScalarType gradient_type = strategy.bf16_gradients ? at::kBFloat16 : at::kFloat;
  working_pool = strategy.weights == WeightSourceKind::host ? MemoryPool::host : MemoryPool::device;
  if (kept != nullptr) {
    trained.take(kept->trained);
    frozen.take(kept->frozen);
  } else {
    trained.allocate(strategy.shards_weights(), working_type, device, working_pool);
    frozen.allocate(strategy.shards_weights(), working_type, device, working_pool);
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
      part.master = trained.range(range);
    } else if (strategy.master == MasterLayout::split) {
      part.remainder = make(at::kShort);
    } else {
      part.master = make(at::kFloat);
      clear_padding(part.master, trained.layout(), range.begin);
    }
    part.moment1 = make(moment_type);
    part.moment2 = make(moment_type);
    optimizer.push_back(std::move(part));
  });
  each_pool([&](ElementRange range, MemoryPool pool) {
    const ElementRange mine = range.within(shard());
    if (mine.size() == 0) return;
    GradientPart& part = gradients.emplace_back();
    part.range = mine;
    part.pool = pool;
    part.sum = allocate_flat(mine.size(), gradient_type, device, MemoryCategory::gradients, pool);
  });
  if (strategy.weights == WeightSourceKind::resident) bind_own_weights();
}

void BlockState::bind_weights(const at::Tensor& whole) {
  trained.bind(*block, whole.narrow(0, 0, trained.total_elements()));
  frozen.bind(*block, whole.narrow(0, trained.total_elements(), frozen.total_elements()));
}

void BlockState::bind_own_weights() {
  trained.bind(*block, trained.values());
  frozen.bind(*block, frozen.values());
}

void BlockState::unbind_weights() {
  for (Parameter& parameter : block->parameters()) parameter.bind_weight({});
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
