// What one block owns on one rank: working weights, master weights, moments, and gradient accumulators, each
// where the strategy puts it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "sharding/strategy.h"
#include "trainer/states/flat_weights.h"

namespace autoglm {

// Optimizer state of a range, in one memory.
struct OptimizerPart {
  ElementRange range;
  MemoryPool pool = MemoryPool::device;
  at::Tensor
      master;  // fp32 [n]; undefined when split; under fp32 a view of the working weights in the same pool
  at::Tensor remainder;  // int16 [n], when split
  at::Tensor moment1;    // fp32 or bf16 [n]
  at::Tensor moment2;
  bool is_working = false;  // the master is the working weight
};

// This rank's sum of gradients over ranks and micro-batches, for a range in one memory.
struct GradientPart {
  ElementRange range;
  MemoryPool pool = MemoryPool::device;
  at::Tensor sum;  // fp32 or bf16 [n]
  // Whether squares for the norm are taken while this is added to, and those of the shard's pieces (host_sums.h).
  bool squared = false;
  std::vector<double> squares;
};

// The type of working weights.
inline at::ScalarType scalar_type(Precision precision) {
  return precision == Precision::bf16 ? at::kBFloat16 : at::kFloat;
}

// What decides the sizes below.
struct StatePlacement {
  int rank = 0;
  int world_size = 1;
  Strategy strategy;
  Precision precision = Precision::bf16;
  at::Device device = at::kCPU;
};

class BlockState {
 public:
  Block* block = nullptr;
  FlatWeights trained;  // working weights
  FlatWeights frozen;
  MemoryPool working_pool = MemoryPool::device;  // of both
  std::vector<OptimizerPart> optimizer;          // in order of their ranges
  std::vector<GradientPart> gradients;
  bool accumulated = false;  // whether the accumulators hold anything of this step yet
  bool stepped = false;      // whether the moments hold anything yet

  // Only the layouts; allocate() must follow.
  BlockState(Block& owner, const StatePlacement& placement);
  BlockState(BlockState&&) = default;
  BlockState& operator=(BlockState&&) = default;

  // Elements that this rank optimizes: all trainable ones in stage 0, else its shard.
  ElementRange optimizer_range() const;
  ElementRange shard() const { return trained.shard(); }

  // Allocates everything; the last `host_elements` of optimizer_range(), a multiple of
  // FlatLayout::kAlignment, lie on the host, and so do the accumulators of what this rank sums of them.
  // Weights are to be loaded; moments have no values before the first step of AdamW, which takes them as
  // zero.
  //
  // The working weights of `kept`, if given, are taken instead of new tensors.
  void allocate(std::int64_t host_elements, const BlockState* kept = nullptr);

  // Moves the states to where another strategy puts them, with the same bits; gradients are dropped. States
  // may be sharded further or go to the host, not come back together. The block's slots must be unbound, and
  // nothing may be under way. Where nothing changes, nothing is touched.
  void relocate(const Strategy& strategy, std::int64_t host_elements);

  std::int64_t whole_elements() const { return trained.total_elements() + frozen.total_elements(); }
  bool trainable() const { return trained.total_elements() > 0; }

  // The group that parameter `index` belongs to.
  const FlatWeights& group_of(std::size_t index) const {
    return block->parameters()[index].trainable() ? trained : frozen;
  }
  // Its elements in that group, and those of them that are held here.
  ElementRange elements_of(std::size_t index) const { return group_of(index).elements_of(index); }
  ElementRange held_elements_of(std::size_t index) const {
    return elements_of(index).within(group_of(index).held());
  }

  // Binds the parameters' weights to a buffer that begins with the trained group and goes on with the frozen
  // one, [whole_elements()]; or to the weights held here, which must be whole; or to nothing.
  void bind_weights(const at::Tensor& whole);
  void bind_own_weights();
  void unbind_weights();

  // Points every trainable parameter's gradient into `flat` (fp32 [trained.total_elements()]), which holds nothing
  // yet when it is fresh, or away from it when undefined.
  void bind_gradients(const at::Tensor& flat, bool fresh = false) {
    trained.bind_gradients(*block, flat, fresh);
  }

  // Throws Error(bug) naming a trainable parameter whose gradient no op has asked for since the last call.
  void check_gradients_written() const;
  // The same for one of them.
  void check_gradient_written(const Parameter& parameter) const;

 private:
  void copy_optimizer(const BlockState& from);

  StatePlacement placement_;
};

// How many elements of each block's optimizer_range() lie on the host: together `fraction` of all, to the
// nearest FlatLayout::kAlignment, from the last block backwards, cutting one of them.
std::vector<std::int64_t> host_elements(std::span<const BlockState> states, double fraction);

}  // namespace autoglm
