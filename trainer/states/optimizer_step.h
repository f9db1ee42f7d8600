// AdamW on everything that this rank optimizes, wherever its parts lie.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/block_state.h"
#include "trainer/states/gradient_reducer.h"
#include "trainer/states/streams.h"
#include "trainer/states/weight_source.h"

namespace autoglm {

// Blocks are updated in the order of the forward pass, so that the next one can begin while later blocks are
// still on their way. A part is updated where its state lies. Where the working weights lie in the other
// memory, pieces of them pass through three staging buffers: one coming, one being updated, one going.
class OptimizerStep {
 public:
  // Allocates the staging buffers that the placement needs. Everything must outlive the object.
  OptimizerStep(std::span<BlockState> states, const StatePlacement& placement, Communicator& communicator,
                EngineStreams& streams, GradientReducer& reducer, WeightSource& weights, std::uint64_t seed);
  ~OptimizerStep();
  OptimizerStep(const OptimizerStep&) = delete;
  OptimizerStep& operator=(const OptimizerStep&) = delete;

  // One step, counting from 1, with every gradient multiplied by `gradient_scale`. Only after the reducer's
  // finish(). Weights are brought to the other ranks asynchronously. Allocates nothing.
  void run(const AdamWSettings& settings, double learning_rate, std::int64_t step, double gradient_scale);

 private:
  static constexpr std::size_t kNumStages = 3;

  // What is updated at a time: a whole part, or a piece that fits a staging buffer.
  struct Piece {
    std::size_t block = 0;
    std::size_t part = 0;
    ElementRange range;
    bool last = false;  // of its block
  };
  struct StepContext {
    AdamWUpdate decaying, plain;
  };

  const OptimizerPart& part_of(const Piece& piece) const {
    return states_[piece.block].optimizer[piece.part];
  }
  bool stages_weights(const OptimizerPart& part) const;
  bool stages_gradients(const OptimizerPart& part) const { return gathers_ && part.pool == MemoryPool::host; }
  void start_gather(std::size_t block);
  void gather_ahead(std::size_t first_piece);
  void load(std::size_t piece);
  void update(std::size_t piece, StepContext& context);
  void store(std::size_t piece);
  AdamWSlice slice_of(std::size_t piece, ElementRange range) const;
  at::Tensor gathered(std::size_t block) const;
  Stream& inward() { return weights_on_host_ ? streams_.upload() : streams_.download(); }
  Stream& outward() { return weights_on_host_ ? streams_.download() : streams_.upload(); }

  std::span<BlockState> states_;
  StatePlacement placement_;
  Communicator& communicator_;
  EngineStreams& streams_;
  GradientReducer& reducer_;
  WeightSource& weights_;
  std::uint64_t seed_;
  bool weights_on_host_;
  bool gathers_;  // stage 0 on several ranks: whole gradients are needed
  std::vector<Piece> pieces_;
  std::vector<std::vector<std::uint64_t>>
      first_elements_;  // by block and parameter: place among all the model's
  std::vector<Event> gathers_done_;
  std::size_t gathered_until_ = 0;  // blocks below have started in this step
  at::Tensor weight_staging_[kNumStages];
  at::Tensor gradient_staging_[kNumStages];
  Event loaded_[kNumStages];
  Event stored_[kNumStages];
};

}  // namespace autoglm
