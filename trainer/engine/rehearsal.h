// A training step on the meta device: what it will allocate, without memory, weights or a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sharding/memory/statistics.h"
#include "sharding/work.h"
#include "trainer/engine/engine_options.h"
#include "trainer/models/config.h"
#include "trainer/ops/target.h"

namespace autoglm {

struct RehearsalRequest {
  ModelConfig model;
  EngineOptions options;  // `device` is ignored
  int rank = 0;
  int world_size = 1;
  std::int64_t micro_batches = 1;                     // of one step
  std::vector<std::int64_t> layers;                   // of the model, by number; none: all of them
  std::vector<std::string> frozen;                    // names of parameters that are not trained
  std::int64_t device_limit = std::int64_t{1} << 50;  // bytes; OutOfMemory beyond
  ops::Target target = ops::Target::cpu;              // whose allocations are rehearsed
  int multiprocessors = ops::kCommonMultiprocessors;  // of the target, if it is a CUDA device
};

// The model of the request, with what is not trained marked.
Model make_model(const RehearsalRequest& request);

// One phase of one block: what the arenas held in it, the largest over all its occurrences, and what the first of
// these moved and computed.
struct RehearsedPhase {
  EnginePhase phase = EnginePhase::construction;
  std::size_t block = 0;
  MemoryUse device_peak, host_peak;    // within the phase
  MemoryUse device_after, host_after;  // when it had ended
  WorkCount work;
};

// Builds the engine, runs one whole step (micro-batches, norm, optimizer) and an evaluation of one
// micro-batch on meta tensors, and returns what the arenas of device and host would have counted. `peak`
// covers the whole run from construction on.
MemoryStatistics rehearse(const RehearsalRequest& request);

// The same phase by phase, in the order in which phases first end. With `only_construction` nothing runs:
// what states, slots and staging buffers hold.
std::vector<RehearsedPhase> rehearse_phases(const RehearsalRequest& request, bool only_construction = false);

// What one phase of one block moves and computes.
struct PhaseWork {
  EnginePhase phase = EnginePhase::construction;
  std::size_t block = 0;
  WorkCount work;
};

// The phases of the step, as often as each of them comes, in order: what rank, device and links have to do. The
// norm of the gradients counts to the optimizer's phase. Ops count their CUDA routes only.
std::vector<PhaseWork> rehearse_work(const RehearsalRequest& request);

}  // namespace autoglm
