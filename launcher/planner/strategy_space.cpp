#include "launcher/planner/strategy_space.h"

#include <algorithm>

#include "base/math.h"

namespace autoglm {
namespace {

// zero1 and zero2 are the same here (gradients are always sharded); what shards nothing needs one rank.
std::vector<int> stages(const StrategySpace& space) {
  if (space.pins.stage) return {*space.pins.stage};
  if (space.pins.weights == WeightSourceKind::peers) return {3};
  if (space.world_size == 1) return {0};
  if (space.pins.reduce == ReduceMode::step) return {0, 1};  // gradients are whole
  return {0, 2, 3};
}

// More tokens at a time than this do not make a device faster.
constexpr std::int64_t kMostTokens = 1 << 18;
// Of deep models not every number of recomputed layers is tried.
constexpr std::int64_t kMostLayerChoices = 128;

// Powers of two, and the whole share of a rank.
std::vector<std::int64_t> micro_batches(const StrategySpace& space) {
  if (space.pins.micro_batch) return {*space.pins.micro_batch};
  std::vector<std::int64_t> sizes;
  const std::int64_t most =
      std::min(space.rows_per_rank, std::max<std::int64_t>(1, kMostTokens / space.row_length));
  for (std::int64_t size = 1; size < most; size *= 2) sizes.push_back(size);
  sizes.push_back(most);
  return sizes;
}

struct RecomputeChoice {
  Recompute level;
  std::int64_t layers;
};

std::vector<RecomputeChoice> recompute_choices(const StrategySpace& space) {
  std::vector<RecomputeChoice> choices;
  for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
    if (space.pins.recompute && *space.pins.recompute != level) continue;
    if (level == Recompute::none) {
      if (!space.pins.recompute_layers) choices.push_back({level, -1});
      continue;
    }
    if (space.pins.recompute_layers) {
      choices.push_back({level, *space.pins.recompute_layers});
      continue;
    }
    choices.push_back({level, -1});
    if (space.pins.recompute) continue;
    const std::int64_t stride = divide_up(space.num_layers, kMostLayerChoices);
    for (std::int64_t layers = stride; layers < space.num_layers; layers += stride)
      choices.push_back({level, layers});
  }
  return choices;
}

std::vector<WeightSourceKind> sources(const StrategySpace& space, int stage) {
  if (space.pins.weights) return {*space.pins.weights};
  std::vector<WeightSourceKind> kinds{stage == 3 ? WeightSourceKind::peers : WeightSourceKind::resident};
  if (space.may_offload) kinds.push_back(WeightSourceKind::host);
  return kinds;
}

std::vector<double> activation_shares(const StrategySpace& space, Recompute level) {
  if (space.pins.offload_activations) return {*space.pins.offload_activations};
  if (space.may_offload && level == Recompute::full) return {0, 1};
  return {0};
}

}  // namespace

std::vector<Strategy> enumerate_strategies(const StrategySpace& space, std::int64_t head_chunks) {
  std::vector<Strategy> strategies;
  std::vector<MasterLayout> masters{MasterLayout::plain};
  if (space.precision == Precision::bf16) masters = {MasterLayout::split, MasterLayout::plain};
  if (space.pins.master) masters = {*space.pins.master};
  Strategy strategy = pinned_strategy(space.pins, space.precision);
  strategy.head_chunks = space.pins.head_chunks.value_or(head_chunks);
  for (const int stage : stages(space)) {
    strategy.stage = stage;
    for (const WeightSourceKind source : sources(space, stage)) {
      strategy.weights = source;
      for (const MasterLayout master : masters) {
        strategy.master = master;
        for (const std::int64_t rows : micro_batches(space)) {
          strategy.micro_batch = rows;
          for (const RecomputeChoice& choice : recompute_choices(space)) {
            strategy.recompute = choice.level;
            strategy.recompute_layers = choice.layers;
            for (const double share : activation_shares(space, choice.level)) {
              strategy.offload_activations = share;
              if (strategy_conflict(strategy, space.precision).empty()) strategies.push_back(strategy);
            }
          }
        }
      }
    }
  }
  return strategies;
}

}  // namespace autoglm
