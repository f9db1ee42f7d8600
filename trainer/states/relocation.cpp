// Moving a block's states to where another strategy puts them.
#include "trainer/states/block_state.h"

namespace autoglm {
namespace {

std::int64_t host_part(const BlockState& state) {
  std::int64_t elements = 0;
  for (const OptimizerPart& part : state.optimizer) {
    if (part.pool == MemoryPool::host) elements += part.range.size();
  }
  return elements;
}

void copy_range(const at::Tensor& to, std::int64_t to_first, const at::Tensor& from, std::int64_t from_first,
                std::int64_t count) {
  if (!to.defined() || !from.defined() || count == 0) return;
  to.narrow(0, to_first, count).copy_(from.narrow(0, from_first, count));
}

}  // namespace

void BlockState::copy_optimizer(const BlockState& from) {
  for (OptimizerPart& to : optimizer) {
    for (const OptimizerPart& part : from.optimizer) {
      const ElementRange range = to.range.within(part.range);
      const std::int64_t to_first = range.begin - to.range.begin, from_first = range.begin - part.range.begin;
      if (range.size() == 0) continue;
      copy_range(to.master, to_first, part.master, from_first, range.size());
      copy_range(to.remainder, to_first, part.remainder, from_first, range.size());
      copy_range(to.moment1, to_first, part.moment1, from_first, range.size());
      copy_range(to.moment2, to_first, part.moment2, from_first, range.size());
    }
  }
}

void BlockState::relocate(const Strategy& strategy, std::int64_t host_elements) {
  const Strategy& before = placement_.strategy;
  AUTOGLM_CHECK(strategy.stage >= before.stage && strategy.master == before.master &&
                    strategy.bf16_gradients == before.bf16_gradients &&
                    strategy.bf16_moments == before.bf16_moments && strategy.reduce == before.reduce &&
                    strategy.reduce_scatter == before.reduce_scatter &&
                    strategy.bf16_reduce == before.bf16_reduce,
                "{} cannot become {}", describe_strategy(before), describe_strategy(strategy));
  accumulated = false;
  const bool same_optimizer =
      strategy.shards_optimizer() == before.shards_optimizer() && host_part(*this) == host_elements;
  const bool same_pool =
      (strategy.weights == WeightSourceKind::host) == (before.weights == WeightSourceKind::host);
  const bool same_working = strategy.shards_weights() == before.shards_weights() && same_pool;
  if (same_optimizer && same_working) {
    placement_.strategy = strategy;
    return;
  }
  unbind_weights();
  gradients.clear();
  StatePlacement placement = placement_;
  placement.strategy = strategy;
  BlockState next(*block, placement);
  next.stepped = stepped;
  next.allocate(host_elements, same_working ? this : nullptr);
  next.trained.copy_from(trained);
  next.frozen.copy_from(frozen);
  next.copy_optimizer(*this);
  *this = std::move(next);
}

}  // namespace autoglm
