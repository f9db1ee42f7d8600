// What engine_run is asked for, and random models and rows for it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sharding/device_choice.h"
#include "sharding/strategy_pins.h"
#include "trainer/engine/engine.h"

namespace autoglm {

struct RunRequest {
  DeviceRequest device = DeviceRequest::automatic;
  std::optional<std::int64_t> memory_limit;  // bytes of the device's pool
  std::optional<std::int64_t> host_limit;    // bytes of the host's pool; the machine's memory otherwise
  nlohmann::json config;                     // as in a model directory
  Precision precision = Precision::bf16;
  std::int64_t row_length = 128;
  std::int64_t rows = 4;  // of a step over all ranks
  std::int64_t steps = 3;
  double seconds = 60;  // after which no further step or strategy is begun
  bool plans = false;   // by the planner, otherwise the pins with plain defaults
  bool hashes = false;  // says a digest of the weights at the end
  bool bytes_only =
      false;  // nothing is computed: weights are not made up, and plans go by the device's profile
  StrategyPins pins;
  std::optional<std::int64_t> fewest_layers;  // so many at least stay where the host's memory is too small
};

// Throws what nlohmann::json or Error(usage) say of a bad request.
RunRequest parse_run_request(const nlohmann::json& object);

// Fills an engine's parameters from their names and places alone: norms around 1, everything else around 0.
void load_random_weights(Engine& engine);

// Row `index` of a fixed random text: documents of several lengths in which a token mostly follows from the
// one before.
struct RandomRow {
  std::vector<std::int32_t> ids, targets, positions, starts;
  std::int64_t supervised = 0;
};
// All documents have `document_length` tokens where that is not 0.
RandomRow random_row(std::int64_t index, std::int64_t length, std::int64_t vocabulary,
                     std::int64_t document_length = 0);

// The rows of micro-batch `number` of `rank`; returns how many tokens are supervised in them.
std::int64_t fill_micro_batch(MicroBatch& batch, std::int64_t number, int rank, int world_size,
                              std::int64_t vocabulary, std::int64_t document_length = 0);

// A digest of all trained weights as fp32 masters. Collective.
std::uint64_t weights_digest(Engine& engine);

}  // namespace autoglm
