#include "trainer/states/training_states.h"

namespace autoglm {

TrainingStates::TrainingStates(const Model& model, const StatePlacement& placement, const StateGroups& groups,
                               EngineStreams& streams, std::uint64_t seed)
    : model_(model), placement_(placement), groups_(groups), streams_(streams), seed_(seed) {
  for (const auto& block : model.blocks) blocks_.emplace_back(*block, placement);
  const std::vector<std::int64_t> on_host = host_elements(blocks_, placement.strategy.offload_optimizer);
  for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].allocate(on_host[i]);
  allocate_buffers();
}

// Everything that is no state: slots and staging buffers.
void TrainingStates::allocate_buffers() {
  reducer_.emplace(blocks_, placement_, groups_.shards, streams_);
  weights_.emplace(blocks_, placement_, groups_.weights, streams_);
  optimizer_.emplace(blocks_, placement_, groups_.shards, streams_, *reducer_, *weights_, seed_);
  norm_.emplace(blocks_, placement_);
}

void TrainingStates::change_strategy(const Strategy& strategy) {
  reducer_->discard();
  streams_.compute().record().synchronize();
  optimizer_.reset();
  weights_.reset();
  reducer_.reset();
  norm_.reset();
  placement_.strategy = strategy;
  std::vector<BlockState> layouts;
  for (const auto& block : model_.blocks) layouts.emplace_back(*block, placement_);
  const std::vector<std::int64_t> on_host = host_elements(layouts, strategy.offload_optimizer);
  // Gradients mean nothing any more; what they held makes room for what moves.
  for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].relocate(strategy, on_host[i]);
  allocate_buffers();
}

}  // namespace autoglm
