// The states that a rank holds, to be read, filled and written: by files, by the step store, by tests.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "sharding/communicator.h"
#include "trainer/states/block_state.h"
#include "trainer/states/state_saver.h"
#include "trainer/states/weight_source.h"

namespace autoglm {

enum class StateKind {
  working,    // what the forward pass reads: of every parameter; all others of trainable ones alone
  master,     // fp32, where the layout is plain; under fp32 it may be the working weight itself
  remainder,  // int16, where the layout is split
  moment1,    // the moments of AdamW, which has made a step
  moment2,
  gradient,  // summed over ranks and micro-batches, once they are accumulated
};

// A run of elements of one parameter that this rank holds, in one memory.
struct HeldState {
  const Parameter& parameter;
  std::int64_t offset = 0;  // of the first element within the parameter: the same for every number of ranks
  at::Tensor values;        // flat: the state itself, no copy
};

class StateAccess {
 public:
  // Refers to its arguments. Between steps only; every function first waits for what the last step has left
  // under way.
  StateAccess(std::span<BlockState> states, WeightSource& weights, const StatePlacement& placement,
              Communicator& communicator);

  // Shows every run that this rank holds of a kind, in model order; none of a kind that there is not. Local:
  // nothing is broadcast, nothing copied. Together the ranks hold every element, some of them more than once.
  void each_held(StateKind kind, const std::function<void(const HeldState&)>& visit) const;

  // The same, to be written: `read` fills the values of every run, of moments also before the first step.
  // Every rank fills what it holds; afterwards the kind counts as there.
  void fill(StateKind kind, const std::function<void(const HeldState&)>& read);

  // Waits until weights are those of the last step. A rank whose collective has failed throws, and may then not wait for
  // others, which wait for it: so not within run_agreed().
  void settle() const { weights_.settle(); }

  // What this rank saves, for StateSaver: master weights, and moments once there are some. Together the ranks save
  // every element of every trainable parameter once. Local; valid until the strategy changes.
  std::vector<SavedRun> runs_to_save() const;

  // Fills working and master weights: `read(name, offset, values)` writes fp32 values from element `offset`
  // on, a piece at a time; parameters that no file holds initialise themselves. Nothing beyond what this rank
  // holds is read.
  void load(
      const std::function<void(const std::string& name, std::int64_t offset, std::span<float> values)>& read);

  // Calls visit(name, offset, values) for every trainable parameter in model order, a piece at a time, with
  // its fp32 master values, the master rounded as a working weight where `save_dtype(name)` says bf16. Every
  // rank visits every piece: it is broadcast by its owner. Collective. Spans are valid during the call only.
  void export_parameters(
      const std::function<DType(const std::string&)>& save_dtype,
      const std::function<void(const std::string&, std::int64_t offset, std::span<const float>)>& visit);

  // The same for the gradients accumulated so far. Collective.
  void export_gradients(
      const std::function<void(const std::string&, std::int64_t offset, std::span<const float>)>& visit);

  // Asserts that the dtypes in which they are to be written can hold the weights that this rank optimizes. Local.
  // Throws Error(not_finite) naming a tensor.
  void check_saved_range(const std::function<DType(const std::string&)>& save_dtype) const;

  // Rounds the weights to what is written in these dtypes, so that an evaluation sees that.
  // Ends training: master weights are changed.
  void round_to_saved(const std::function<DType(const std::string&)>& save_dtype);

 private:
  // Hands the pieces of the trainable parameters of a block that this rank optimizes to `visit`.
  void visit_mine(
      const BlockState& state, const std::function<bool(const Parameter&)>& wanted,
      const std::function<void(std::size_t parameter, std::int64_t begin, std::span<float>)>& visit) const;

  // Hands every piece of every trainable parameter to `visit` on all ranks; where states are sharded, `read`
  // fills it on the rank that owns it only.
  void visit_pieces(bool sharded,
                    const std::function<void(const BlockState&, ElementRange, std::span<float>)>& read,
                    const std::function<void(const Parameter&, std::int64_t, std::span<float>)>& visit);
  // Brings values in host memory from one rank to all.
  void share_from(int owner, std::span<float> values);

  std::span<BlockState> states_;
  WeightSource& weights_;
  const StatePlacement& placement_;
  Communicator& communicator_;
};

}  // namespace autoglm
