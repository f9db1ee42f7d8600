// Where a block's working weights come from when it runs: the gather ring.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/states/block_state.h"
#include "trainer/states/streams.h"

namespace autoglm {

// Resident weights are there. Others are filled into static slots: two for decoder layers, so that one is
// filled while the other is read, one for the embedding or the head, and a small one for the norm of a tied
// head. A slot keeps its block until another needs it: the last layers of a forward pass are still there for
// the backward pass.
//
// Each slot has an event for "filled" and one for "no longer read". Uploads and gathers are queued in the
// order of the calls below, which must be the same on all ranks.
class WeightSource {
 public:
  // The states are those of embedding, layers, head; they and everything else must outlive the source.
  WeightSource(std::span<BlockState> states, const StatePlacement& placement, Communicator& communicator,
               EngineStreams& streams);

  // Waits until nothing touches the slots any more, even when an exception left something under way.
  ~WeightSource();
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  // Makes the weights of block `index` readable for compute and binds them. Blocks of one slot must be
  // released before another of the same slot is acquired or prefetched.
  void acquire(std::size_t index);

  // Starts filling, if it is not there already. Asynchronous.
  void prefetch(std::size_t index);

  // What compute has queued so far is the last to read them for now.
  void release(std::size_t index);

  // The optimizer has changed this rank's part of block `index`, once `after` is ready: brings the other
  // ranks' parts where weights are whole. Asynchronous. What slots hold is out of date from the first call
  // on.
  void updated(std::size_t index, const Event& after);

  // Waits until what updated() has started is in place, so that the calling thread may read and write the
  // weights that this rank holds.
  void settle() const;

  // What this rank holds was written anew, as all ranks' parts were: what slots hold is out of date.
  void refilled();

 private:
  struct Slot {
    at::Tensor buffer;
    std::optional<std::size_t> holds;
    Event filled;
    Event free;
  };

  bool in_slots() const { return !slots_.empty(); }
  void fill(std::size_t index, Slot& slot);
  Event both(const Event& a, const Event& b);
  // Gathers both groups of a block inside `whole`; this rank's shards come from its state, or are in place.
  Event gather(const BlockState& state, const at::Tensor& whole, bool from_shards, const Event& after);

  std::span<BlockState> states_;
  StatePlacement placement_;
  Communicator& communicator_;
  EngineStreams& streams_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> slot_of_;  // by block
  std::vector<Event> current_;        // by block: when the weights that this rank holds are up to date
};

}  // namespace autoglm
