// Everything of a training that lasts from step to step, and what moves it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/models/model.h"
#include "trainer/states/block_state.h"
#include "trainer/states/gradient_norm.h"
#include "trainer/states/gradient_reducer.h"
#include "trainer/states/optimizer_step.h"
#include "trainer/states/state_access.h"
#include "trainer/states/streams.h"
#include "trainer/states/weight_source.h"

namespace autoglm {

// Whose ranks share what. Today all ranks are one group for both.
struct StateGroups {
  Communicator& shards;   // sum gradients, and divide master weights and moments among themselves
  Communicator& weights;  // gather working weights
};

class TrainingStates {
 public:
  // Allocates the states of every block, slots and staging buffers; weights are to be loaded. All references
  // must outlive the object. `seed` keys the rounding of bf16 moments.
  TrainingStates(const Model& model, const StatePlacement& placement, const StateGroups& groups,
                 EngineStreams& streams, std::uint64_t seed);
  TrainingStates(const TrainingStates&) = delete;
  TrainingStates& operator=(const TrainingStates&) = delete;

  // Of embedding, layers, head.
  std::span<const BlockState> blocks() const { return blocks_; }
  const BlockState& operator[](std::size_t index) const { return blocks_[index]; }
  std::size_t size() const { return blocks_.size(); }

  GradientReducer& reducer() { return *reducer_; }
  WeightSource& weights() { return *weights_; }
  OptimizerStep& optimizer() { return *optimizer_; }
  const GradientNorm& norm() const { return *norm_; }
  // Valid until the strategy changes.
  StateAccess access() { return {blocks_, *weights_, placement_, groups_.shards}; }

  // Moves everything to where `strategy` puts it, with the same bits, between steps; what was accumulated is
  // dropped. States may move to the host and be sharded further, never back, and keep their dtypes and
  // layout: Error(bug) otherwise. OutOfMemory when they do not fit on the way: then the object cannot be used
  // any more.
  void change_strategy(const Strategy& strategy);

 private:
  void allocate_buffers();

  const Model& model_;
  StatePlacement placement_;
  StateGroups groups_;
  EngineStreams& streams_;
  std::uint64_t seed_;
  std::vector<BlockState> blocks_;
  std::optional<GradientReducer> reducer_;
  std::optional<WeightSource> weights_;
  std::optional<OptimizerStep> optimizer_;
  std::optional<GradientNorm> norm_;
};

}  // namespace autoglm
