// Every strategy that a job may run with, given what a person has pinned.
#pragma once

#include <cstdint>
#include <vector>

#include "sharding/strategy_pins.h"

namespace autoglm {

struct StrategySpace {
  StrategyPins pins;
  Precision precision = Precision::bf16;
  int world_size = 1;
  std::int64_t num_layers = 1;
  std::int64_t rows_per_rank = 1;  // of a step: a larger micro-batch would only compute empty rows
  std::int64_t row_length = 1;     // tokens
  bool may_offload = true;         // false where device and host are the same memory
};

// All legal strategies in `space` with so many head chunks (unless pinned) and without offloaded optimizer
// states (unless pinned): how much of those goes to the host is solved for, not enumerated.
std::vector<Strategy> enumerate_strategies(const StrategySpace& space, std::int64_t head_chunks);

}  // namespace autoglm
