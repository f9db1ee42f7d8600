// The options that say where bytes live.
#pragma once

#include <cstdint>
#include <optional>

#include "launcher/options/option_table.h"
#include "sharding/device_choice.h"
#include "sharding/strategy_pins.h"

namespace autoglm {

// Largest number of rows that an option takes.
inline constexpr std::int64_t kMostRows = 1 << 20;

enum class OnOutOfMemory { shrink, stop };

// What is not set is chosen.
struct StrategyOptions {
  DeviceRequest device = DeviceRequest::automatic;
  StrategyPins pins;
  std::optional<std::int64_t> memory_limit;  // bytes per rank of the device's pool
  std::optional<Products> products;          // of the CPU; the fastest that every rank's processor has
  OnOutOfMemory on_oom = OnOutOfMemory::shrink;
};

void bind_strategy_options(OptionTable& table, StrategyOptions& strategy);

// The pins alone, in the table's current group; and those that change last bits, in a group of their own.
void bind_strategy_pins(OptionTable& table, StrategyPins& pins);
void bind_inexact_pins(OptionTable& table, StrategyPins& pins);

// Throws Error(usage) when pins exclude each other. Where one side comes from the command line and the other
// from the file of --config, the command line wins instead, and `pins` is changed.
void settle_pins(const OptionTable& table, StrategyPins& pins, Precision precision);

// Throws Error(usage) when a micro-batch has more rows than a step.
void check_micro_batch(const OptionTable& table, const StrategyPins& pins, std::int64_t global_batch);

// Throws Error(usage) when more layers are to be recomputed than the model has.
void check_recompute_layers(const StrategyPins& pins, std::int64_t num_layers);

}  // namespace autoglm
