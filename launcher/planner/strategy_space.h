// Every strategy that a job may run with, given what a person has pinned.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "sharding/strategy.h"

namespace autoglm {

// What a person has set; the planner chooses the rest. The last three change last bits, so nothing else ever
// sets them.
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

  // Whether anything is left to choose.
  bool complete() const {
    return stage && micro_batch && recompute && offload_optimizer && offload_activations && weights &&
           master && head_chunks;
  }
};

struct StrategySpace {
  StrategyPins pins;
  Precision precision = Precision::bf16;
  int world_size = 1;
  std::int64_t num_layers = 1;
  std::int64_t rows_per_rank = 1;  // of a step: a larger micro-batch would only compute empty rows
  std::int64_t row_length = 1;     // tokens
  bool may_offload = true;         // false where device and host are the same memory
};

inline constexpr std::int64_t kDefaultHeadChunks = 8;

// All legal strategies in `space` with so many head chunks (unless pinned) and without offloaded optimizer
// states (unless pinned): how much of those goes to the host is solved for, not enumerated.
std::vector<Strategy> enumerate_strategies(const StrategySpace& space, std::int64_t head_chunks);

// The strategy that the pins ask for, with plain defaults for what they leave open: data parallel, one row at
// a time, nothing recomputed or offloaded.
Strategy pinned_strategy(const StrategyPins& pins, Precision precision);

}  // namespace autoglm
