// What a strategy needs on one rank, priced from rehearsals of a few layers.
//
// States, slots and staging are rehearsed by constructing the engine. What a step holds besides is rehearsed
// with the first and the last layer of every group of layers that are alike (ShallowModel); the peak of every
// phase of the whole model is that of the shallow one plus what the layers left out keep alive in it. The plan
// that is chosen is rehearsed whole.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "launcher/planner/shallow_model.h"
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
  int multiprocessors = ops::kCommonMultiprocessors;  // of a CUDA device
};

// The peaks of a rank's pools, each in the phase in which it is largest.
struct MemoryPrice {
  MemoryUse device, host;
  EnginePhase device_phase = EnginePhase::construction;
};

// What the passes of a micro-batch over a layer move and compute.
struct PassWork {
  WorkCount forward, backward;
};
// The same of the head, whose passes are one, and of the embedding's backward pass.
struct OuterWork {
  WorkCount head, embedding;
};

class MemoryModel {
 public:
  explicit MemoryModel(MemoryQuestion question);

  // Prices a legal strategy. Rehearsals are remembered, so that a price costs microseconds once the parts of
  // the strategy have been seen.
  MemoryPrice price(const Strategy& strategy);

  // Bytes that a layer like this one keeps from forward to backward where all is trained.
  std::int64_t saved_bytes(std::int64_t layer, std::int64_t micro_batch, Recompute level);

  // What its passes do there, in the first micro-batch of a step on one rank; nothing where the target is the CPU,
  // whose routes declare nothing.
  const PassWork& layer_work(std::int64_t layer, std::int64_t micro_batch, Recompute level);
  const OuterWork& outer_work(std::int64_t micro_batch, std::int64_t head_chunks);

  // Rehearses a step of `micro_batches` from end to end.
  MemoryStatistics rehearse(const Strategy& strategy, std::int64_t micro_batches = 2) const;

  // What a step of so many micro-batches has the first rank do.
  std::vector<PhaseWork> rehearse_work(const Strategy& strategy, std::int64_t micro_batches) const;

  const MemoryQuestion& question() const { return question_; }

 private:
  struct States {
    MemoryUse device, host;
  };
  // Beyond the states.
  struct Phase {
    EnginePhase phase;
    MemoryUse device;
    std::optional<std::size_t> group;  // of the layer that is passed
  };
  struct Activations {
    std::vector<Phase> phases;
    std::map<std::size_t, MemoryUse> saved;  // by group: by one layer
    std::map<std::size_t, PassWork> passes;  // by group: of one layer
    OuterWork outer;
    MemoryUse host;  // by all recomputing layers together
  };
  // What a step of a few layers is rehearsed with.
  struct Shallow {
    Strategy strategy;
    bool all_trained = false;
    std::vector<std::size_t> groups;  // of the layers
    auto operator<=>(const Shallow&) const = default;
  };

  RehearsalRequest request_for(const Strategy& strategy) const;
  const States& states(const Strategy& strategy, double offload_optimizer);
  States states_of(const Strategy& strategy);
  const ShallowModel& shallow_model(std::int64_t num_recomputing);
  // With `offloads` all recomputing layers' inputs are; with `all_trained` nothing is frozen.
  const Activations& activations(const Strategy& strategy, const KeptLayers& layers, bool offloads,
                                 bool all_trained = false);
  // Of two layers like this one, trained wholly.
  const Activations& alone(std::int64_t layer, std::int64_t micro_batch, Recompute level,
                           std::int64_t head_chunks = kDefaultHeadChunks);
  std::size_t group_of(std::int64_t layer, Recompute level) const;
  Activations rehearse_activations(const RehearsalRequest& request, const KeptLayers& layers) const;
  double offloaded_share(const KeptLayers& layers, std::int64_t num_offloaded) const;

  MemoryQuestion question_;
  LayerNumbering kinds_, classes_;
  std::int64_t first_reached_ = 0;
  std::vector<double> input_elements_;  // by layer, of one row
  std::map<std::int64_t, ShallowModel> shallow_models_;
  std::map<Strategy, States> states_;
  std::map<Shallow, Activations> activations_;
};

}  // namespace autoglm
