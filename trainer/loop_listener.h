// What a training tells of itself while it runs.
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/engine/step_votes.h"

namespace autoglm {

// One optimizer step over all ranks.
struct StepReport {
  std::int64_t step = 0;       // from 1
  double epoch = 0;            // passes over the data after this step: 0.5 in the middle of the first
  std::optional<double> loss;  // none: nothing was supervised, nothing updated
  double learning_rate = 0;
  std::optional<double> gradient_norm;  // before clipping; none when loss is
  std::int64_t tokens = 0;              // padding not counted
  std::int64_t supervised_tokens = 0;
  double seconds = 0;
  double exposed_seconds = 0;  // in which this rank's compute waited for communication and transfers
};

// Told on every rank; the collectives of listeners must be the same on all. A listener that throws ends the
// training.
class LoopListener {
 public:
  virtual ~LoopListener() = default;

  // Before the micro-batches of a step run, also when it is run again.
  virtual void before_step(std::int64_t /*step*/) {}
  // Adds this rank's votes, which all ranks' sums of the step bring to end_of_step(). A step without anything
  // supervised has no sums, and so no votes.
  virtual void vote(std::int64_t /*step*/, StepVotes& /*mine*/) {}
  // The optimizer is about to change weights and moments.
  virtual void before_update(std::int64_t /*step*/) {}
  virtual void after_step(const StepReport& /*step*/) {}
  // `loss` is the mean over the supervised tokens of the validation set, after so many steps.
  virtual void after_evaluation(std::int64_t /*step*/, double /*loss*/) {}
  // After a step and the evaluation that follows it, if any. `votes` are the same on all ranks. Returns whether
  // training is to end here, which all ranks must say alike.
  virtual bool end_of_step(std::int64_t /*step*/, const StepVotes& /*votes*/) { return false; }
  // So many ranks ran out of memory in a step or an evaluation, which is void and will be run again: the
  // engine may be given another strategy. Returns whether the listener has seen to it.
  virtual bool out_of_memory(std::int64_t /*step*/, std::int64_t /*num_ranks*/) { return false; }
};

}  // namespace autoglm
