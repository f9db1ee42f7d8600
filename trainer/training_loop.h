// Steps, evaluations and what is measured of them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/data/batch_plan.h"
#include "trainer/data/dataset.h"
#include "trainer/engine/engine.h"
#include "trainer/loop_listener.h"
#include "trainer/loop_options.h"

namespace autoglm {

// Counts the rows of every epoch that is trained, for BatchPlan: the same on every rank. With `steps`, as
// many epochs as they reach into.
std::vector<std::int64_t> count_rows(const Dataset& dataset, const LoopOptions& options);

// What explains a loss that is not finite before anything was trained.
struct FailureHints {
  // Tensors whose values were not finite when they were read; empty: there was none.
  std::string broken_weights = {};
  // A sample as a person finds it.
  std::function<std::string(std::uint32_t sample)> describe_sample = [](std::uint32_t sample) {
    return "sample " + std::to_string(sample + 1);
  };
};

class TrainingLoop {
 public:
  // All objects but `plan` must outlive the loop. `plan` was made for the communicator's size and
  // the engine's micro-batch. Throws Error(usage) when the warm-up is longer than it.
  TrainingLoop(Engine& engine, const Dataset& dataset, const BatchPlan& plan, Communicator& communicator,
               const LoopOptions& options, std::vector<LoopListener*> listeners, FailureHints hints = {});

  // Evaluates, then trains all steps with evaluations between them; the one after the last step is left to
  // the caller. With `first_step` goes on after so many steps of an earlier run, where the first evaluation
  // was. Throws AgreedError: not_finite when a loss or a gradient is not finite (nothing was updated with
  // it), does_not_fit when ranks ran out of memory and no listener saw to it. Returns false where a listener has
  // ended it before the last step.
  bool run(std::int64_t first_step = 0);

  // Mean loss over the supervised tokens of the validation set, the same on all ranks; none when there is no
  // validation set. Reports it to the listeners as belonging to `step`. Throws AgreedError(not_finite).
  std::optional<double> evaluate(std::int64_t step);

 private:
  StepVotes train_step(std::int64_t index);
  StepSums accumulate(std::int64_t index, double supervised);
  // Sums of the step, run as often as memory runs out in it.
  StepSums accumulate_until_it_fits(std::int64_t index, double supervised);
  void recover(std::int64_t step, std::int64_t num_ranks);
  void fill(const RowPlan& rows, const std::function<std::optional<std::int64_t>(std::int64_t slot)>& row_of);
  const RowPlan& epoch_rows(std::int64_t epoch);
  // What is to blame and what to do, where the loss of a step or an evaluation is not finite.
  std::string advice(const BatchPlan& plan, const StepRows& step, const RowPlan& rows);
  // Of the micro-batches that ran last, the first whose loss is not finite; the same on all ranks.
  std::optional<std::int64_t> first_broken_micro_batch() const;
  // The first of the samples whose loss alone is not finite. Collective.
  std::optional<std::uint32_t> first_broken_sample(std::span<const std::uint32_t> samples);

  Engine& engine_;
  const Dataset& dataset_;
  BatchPlan plan_;
  Communicator& communicator_;
  LoopOptions options_;
  LearningRateSchedule schedule_;
  std::vector<LoopListener*> listeners_;  // told in this order
  FailureHints hints_;
  bool updated_ = false;              // a step has changed the weights
  std::vector<double> micro_losses_;  // of the micro-batches of this rank that ran last
  MicroBatch batch_;
  RowPlan validation_rows_;
  std::int64_t current_epoch_ = -1;
  RowPlan training_rows_;
};

}  // namespace autoglm
