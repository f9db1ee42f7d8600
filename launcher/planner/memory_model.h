// What a strategy needs on one rank, priced from rehearsals of a few layers.
//
// States, slots and staging are rehearsed by constructing the engine. What a step holds besides is rehearsed
// with at most four layers, two that recompute and two that do not; the peak of every phase of a deeper model
// is that of the shallow one plus what the layers left out keep alive in it. The plan that is chosen is
// rehearsed whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sharding/memory/statistics.h"
#include "trainer/engine/rehearsal.h"

namespace autoglm {

// What does not depend on the strategy.
struct MemoryQuestion {
  ModelConfig model;
  std::vector<std::string> frozen;  // names of parameters that are not trained
  Precision precision = Precision::bf16;
  std::int64_t row_length = 2048;
  std::int64_t max_positions = 0;
  int world_size = 1;
  ops::Target target = ops::Target::cpu;
};

// The peaks of a rank's pools, each in the phase in which it is largest.
struct MemoryPrice {
  MemoryUse device, host;
  EnginePhase device_phase = EnginePhase::construction;
};

class MemoryModel {
 public:
  explicit MemoryModel(MemoryQuestion question);

  // Prices a legal strategy. Rehearsals are remembered, so that a price costs microseconds once the parts of
  // the strategy have been seen.
  MemoryPrice price(const Strategy& strategy);

  // Bytes that one layer keeps from forward to backward, for elementwise work in the time model.
  std::int64_t saved_bytes(std::int64_t micro_batch, Recompute level);

  // Rehearses a step of `micro_batches` from end to end.
  MemoryStatistics rehearse(const Strategy& strategy, std::int64_t micro_batches = 2) const;

  const MemoryQuestion& question() const { return question_; }
  // How many layers a backward pass reaches.
  std::int64_t num_trained_layers() const { return question_.model.num_layers - first_trained_layer_; }

 private:
  struct States {
    MemoryUse device, host;
  };
  // Beyond the states.
  struct Phase {
    EnginePhase phase;
    MemoryUse device;
    bool sees_recomputing = false;  // whether the layers left out keep their share alive in it
    bool sees_others = false;
  };
  struct Activations {
    std::vector<Phase> phases;
    MemoryUse saved_recomputing, saved_other;          // by one layer
    MemoryUse host_recomputing;                        // by one offloaded layer
    std::int64_t num_recomputing = 0, num_others = 0;  // in the shallow model
  };
  // What a step of a shallow model is rehearsed with.
  struct Shallow {
    Strategy strategy;
    std::int64_t num_layers = 0;
    auto operator<=>(const Shallow&) const = default;
  };

  RehearsalRequest request_for(const Strategy& strategy) const;
  const States& states(const Strategy& strategy, double offload_optimizer);
  States states_of(const Strategy& strategy);
  const Activations& activations(const Strategy& strategy, std::int64_t num_recomputing,
                                 std::int64_t num_others, bool offloads);
  Activations rehearse_activations(const Shallow& shallow) const;

  MemoryQuestion question_;
  std::int64_t first_trained_layer_ = 0;
  std::map<Strategy, States> states_;
  std::map<Shallow, Activations> activations_;
};

}  // namespace autoglm
