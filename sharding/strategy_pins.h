// What a person has set of a strategy, and a walk over all that a strategy consists of.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "sharding/strategy.h"

namespace autoglm {

// The planner chooses the rest. The last five change last bits, so nothing else ever sets them.
struct StrategyPins {
  std::optional<int> stage;
  std::optional<std::int64_t> micro_batch;
  std::optional<Recompute> recompute;
  std::optional<std::int64_t> recompute_layers;
  std::optional<double> offload_optimizer;
  std::optional<double> offload_activations;
  std::optional<WeightSourceKind> weights;
  std::optional<MasterLayout> master;
  std::optional<std::int64_t> head_chunks;
  bool bf16_gradients = false;
  bool bf16_moments = false;
  ReduceMode reduce = ReduceMode::micro_batch;
  ReduceScatter reduce_scatter = ReduceScatter::ordered;
  bool bf16_reduce = false;

  // Whether anything is left to choose.
  bool complete() const;
};

// One part of a strategy.
template <typename T, typename Pin>
struct StrategyField {
  using Value = T;
  static constexpr bool is_chosen = !std::is_same_v<T, Pin>;  // by the planner, where it is not pinned

  std::string_view name;  // in plans
  T Strategy::*value;
  Pin StrategyPins::*pin;
  std::type_identity_t<std::span<const Word<T>>> words = {};  // none: a number
};

// Calls visit(field) for every part, in the order of plans. `visit` takes a StrategyField of any type by
// value.
template <typename Visit>
void each_field(Visit&& visit) {
  visit(StrategyField{"strategy", &Strategy::stage, &StrategyPins::stage, kStages});
  visit(StrategyField{"micro_batch", &Strategy::micro_batch, &StrategyPins::micro_batch});
  visit(StrategyField{"recompute", &Strategy::recompute, &StrategyPins::recompute, kRecomputes});
  visit(StrategyField{"recompute_layers", &Strategy::recompute_layers, &StrategyPins::recompute_layers});
  visit(StrategyField{"offload_optimizer", &Strategy::offload_optimizer, &StrategyPins::offload_optimizer});
  visit(StrategyField{"offload_activations", &Strategy::offload_activations,
                      &StrategyPins::offload_activations});
  visit(StrategyField{"weights", &Strategy::weights, &StrategyPins::weights, kWeightSources});
  visit(StrategyField{"master", &Strategy::master, &StrategyPins::master, kMasterLayouts});
  visit(StrategyField{"head_chunks", &Strategy::head_chunks, &StrategyPins::head_chunks});
  visit(StrategyField{"gradient_dtype", &Strategy::bf16_gradients, &StrategyPins::bf16_gradients, kWidths});
  visit(StrategyField{"moment_dtype", &Strategy::bf16_moments, &StrategyPins::bf16_moments, kWidths});
  visit(StrategyField{"reduce", &Strategy::reduce, &StrategyPins::reduce, kReduceModes});
  visit(StrategyField{"reduce_scatter", &Strategy::reduce_scatter, &StrategyPins::reduce_scatter,
                      kReduceScatters});
  visit(StrategyField{"reduce_dtype", &Strategy::bf16_reduce, &StrategyPins::bf16_reduce, kWidths});
}

// The strategy that the pins ask for, with plain defaults for what they leave open: data parallel, one row at
// a time, nothing recomputed or offloaded.
Strategy pinned_strategy(const StrategyPins& pins, Precision precision);

// Only what changes last bits stays pinned.
StrategyPins without_choices(StrategyPins pins);

}  // namespace autoglm
