// What one block owns on one rank: working weights, master weights, moments, and gradient accumulators, each
// where the strategy puts it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "sharding/flat_layout.h"
#include "sharding/memory/category.h"
#include "sharding/strategy.h"
#include "trainer/models/block.h"

namespace autoglm {

// Elements [begin, end) of a block's trainable parameters.
struct ElementRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  ElementRange within(ElementRange other) const {
    const std::int64_t low = std::max(begin, other.begin);
    return {low, std::max(low, std::min(end, other.end))};
  }
};

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

// Trainable parameters lie before frozen ones in the working weights; each group is laid out and sharded for
// itself, so that what is trained is dealt evenly.
class BlockState {
 public:
  Block* block = nullptr;
  FlatLayout layout;   // trainable parameters; frozen ones have no elements in it
  FlatLayout frozen;   // the others
  at::Tensor working;  // bf16 or fp32: [whole_elements()], or [shard_elements()] in stage 3
  MemoryPool working_pool = MemoryPool::device;
  std::vector<OptimizerPart> optimizer;  // in order of their ranges
  std::vector<GradientPart> gradients;
  bool accumulated = false;  // whether the accumulators hold anything of this step yet
  bool stepped = false;      // whether the moments hold anything yet

  // Only the layouts; allocate() must follow.
  BlockState(Block& owner, const StatePlacement& placement);
  BlockState(BlockState&&) = default;
  BlockState& operator=(BlockState&&) = default;

  // Elements that this rank optimizes: all trainable ones in stage 0, else its shard.
  ElementRange optimizer_range() const;
  ElementRange shard() const {
    return {rank_ * layout.shard_elements(), (rank_ + 1) * layout.shard_elements()};
  }

  // Allocates everything; the last `host_elements` of optimizer_range(), a multiple of
  // FlatLayout::kAlignment, lie on the host, and so do the accumulators of what this rank sums of them.
  // Weights are to be loaded; moments have no values before the first step of AdamW, which takes them as
  // zero.
  //
  // `kept`, when defined, is taken for the working weights instead of a new tensor.
  void allocate(std::int64_t host_elements, const at::Tensor& kept = {});

  // Moves the states to where another strategy puts them, with the same bits; gradients are dropped. States
  // may be sharded further or go to the host, not come back together. The block's slots must be unbound, and
  // nothing may be under way. Where nothing changes, nothing is touched.
  void relocate(const Strategy& strategy, std::int64_t host_elements);

  std::int64_t whole_elements() const { return layout.total_elements() + frozen.total_elements(); }
  std::int64_t shard_elements() const { return layout.shard_elements() + frozen.shard_elements(); }
  bool trainable() const { return layout.total_elements() > 0; }

  // The working weights of a range of trainable elements that this rank holds.
  at::Tensor working_range(ElementRange range) const;

  // The elements of parameter `index` in its group, and those of them that the working weights here hold.
  ElementRange elements_of(std::size_t index) const;
  ElementRange held_elements_of(std::size_t index) const;
  // Where such an element lies in `working`.
  std::int64_t working_offset(std::size_t index, std::int64_t element) const;

  // Binds the parameters' weights to a buffer of whole_elements(), or unbinds them when it is undefined.
  void bind_weights(const at::Tensor& whole);

  // Points every trainable parameter's gradient into `flat` (fp32 [layout.total_elements()]), or away from it
  // when undefined.
  void bind_gradients(const at::Tensor& flat);

  // Throws Error(bug) naming a trainable parameter whose gradient no op has asked for since the last call.
  void check_gradients_written() const;
  // The same for one of them.
  void check_gradient_written(const Parameter& parameter) const;

 private:
  void copy_working(const BlockState& from);
  void copy_optimizer(const BlockState& from);

  StatePlacement placement_;
  int rank_ = 0;
};

// How many elements of each block's optimizer_range() lie on the host: together `fraction` of all, to the
// nearest FlatLayout::kAlignment, from the last block backwards, cutting one of them.
std::vector<std::int64_t> host_elements(std::span<const BlockState> states, double fraction);

// An uninitialized flat tensor in a pool: of `device`, or of the host beside it (meta's own on meta).
at::Tensor allocate_flat(std::int64_t elements, at::ScalarType type, at::Device device,
                         MemoryCategory category, MemoryPool pool = MemoryPool::device);

// Pointer to an element of a flat tensor; null on meta.
inline void* element_pointer(const at::Tensor& flat, std::int64_t element) {
  if (flat.is_meta() || !flat.defined()) return nullptr;
  return static_cast<char*>(flat.mutable_data_ptr()) +
         element * static_cast<std::int64_t>(flat.element_size());
}

}  // namespace autoglm
