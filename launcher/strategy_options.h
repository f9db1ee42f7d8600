// The options that say where bytes live.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/option_table.h"
#include "sharding/device_choice.h"
#include "sharding/strategy.h"

namespace autoglm {

// Largest number of rows that an option takes.
inline constexpr std::int64_t kMostRows = 1 << 20;

// What is not set is chosen.
struct StrategyOptions {
  DeviceRequest device = DeviceRequest::automatic;
  int stage = 0;
  std::int64_t micro_batch = 1;  // rows of one forward and backward pass on one rank
  Recompute recompute = Recompute::none;
  std::optional<std::int64_t> recompute_layers;  // the first K layers; all of them when not set
  double offload_optimizer = 0;
  double offload_activations = 0;
  std::optional<WeightSourceKind> weights;
  std::optional<MasterLayout> master;
  std::optional<std::int64_t> head_chunks;   // pieces of a micro-batch's tokens in the head
  std::optional<std::int64_t> memory_limit;  // bytes per rank of the device's pool
  bool bf16_gradients = false;
  bool bf16_moments = false;
  ReduceMode reduce = ReduceMode::micro_batch;
};

void bind_strategy_options(OptionTable& table, StrategyOptions& strategy);

// The strategy that the options ask for, with the defaults of what they leave open.
Strategy strategy_of(const StrategyOptions& options, bool bf16);

// Throws Error(usage) when options exclude each other. Where one side comes from the command line and the
// other from the file of --config, the command line wins instead, and `strategy` is changed.
void settle_strategy(const OptionTable& table, StrategyOptions& strategy, bool bf16);

}  // namespace autoglm
