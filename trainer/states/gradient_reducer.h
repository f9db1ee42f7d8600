// Gradients on their way from a block's backward pass to the ranks' accumulators.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/states/block_state.h"
#include "trainer/states/streams.h"

namespace autoglm {

// Flat fp32 buffers in three static slots: two for decoder layers, so that one is reduced while the other is
// written, and one for the embedding or the head. A slot is reused only once its reduction has been added
// to the accumulators: the device's on the compute stream, the host's on the way through staging buffers.
// Contributions are added in the order in which they were handed over, so sums do not depend on timing.
//
// With ReduceMode::step every block has a buffer of its own instead, in which micro-batches are summed before
// one reduction.
class GradientReducer {
 public:
  // The states are those of embedding, layers, head, allocated; they and everything else must outlive the
  // reducer.
  GradientReducer(std::span<BlockState> states, const StatePlacement& placement, Communicator& communicator,
                  EngineStreams& streams);

  // Waits until nothing touches the buffers any more, even when an exception left something under way.
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // A buffer for the gradients of block `index`, fresh or holding those of earlier micro-batches, bound to its
  // parameters. Waits until one is free. Frozen blocks have none: then this and reduce() do nothing. At most
  // one block per slot may be between acquire and reduce.
  void acquire(std::size_t index);

  // The block's gradients are complete: starts summing them over the ranks; unbinds the parameters.
  // Asynchronous.
  void reduce(std::size_t index);

  // Whether gradients handed over from now on are the last of a step: squares of what lies on the host are taken as they
  // are added.
  void expect_last(bool last) { last_ = last; }

  // Waits for everything that was started and adds it to the accumulators.
  void finish();

  // Drops what was accumulated.
  void discard();

  // The slots as scratch space, fp32, for gathering gradients in the optimizer's step; only after finish().
  // Undefined where a block has a buffer of its own.
  const at::Tensor& scratch(std::size_t index) const { return slots_[slot_of_[index]].buffer; }

 private:
  struct Slot {
    at::Tensor buffer;
    BlockState* owner = nullptr;  // between acquire and retirement
    bool in_flight = false;
    bool first = false;     // the accumulator holds nothing of this step yet
    bool in_place = false;  // the reduction writes the accumulator
    Event reduced;
    Event downloaded;
  };

  void start(std::size_t slot);
  void download(Slot& slot, GradientPart& part);
  void retire_oldest();
  const at::Tensor& staging(std::size_t which);

  std::span<BlockState> states_;
  StatePlacement placement_;
  Communicator& communicator_;
  EngineStreams& streams_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> slot_of_;  // by block
  std::deque<std::size_t> in_flight_;
  bool last_ = false;
  std::array<at::Tensor, 2> staging_;  // host fp32 [transfer_elements()] each
  std::array<Event, 2> staging_free_;
  std::size_t next_staging_ = 0;
};

}  // namespace autoglm
