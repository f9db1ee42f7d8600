// A training step on the meta device: what it will allocate, without memory, weights or a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sharding/memory/arena.h"
#include "trainer/engine/engine.h"

namespace autoglm {

struct RehearsalRequest {
  ModelConfig model;
  EngineOptions options;  // `device` is ignored
  int rank = 0;
  int world_size = 1;
  std::int64_t micro_batches = 1;                     // of one step
  std::vector<std::string> frozen;                    // names of parameters that are not trained
  std::int64_t device_limit = std::int64_t{1} << 50;  // bytes; OutOfMemory beyond
};

// Builds the engine, runs one whole step (micro-batches, norm, optimizer) and an evaluation of one
// micro-batch on meta tensors, and returns what the arenas of device and host would have counted. `peak`
// covers the whole run from construction on.
MemoryStatistics rehearse(const RehearsalRequest& request);

}  // namespace autoglm
