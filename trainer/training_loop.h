// Steps, evaluations and what is measured of them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "sharding/communicator.h"
#include "trainer/data/batch_plan.h"
#include "trainer/data/dataset.h"
#include "trainer/engine/engine.h"
#include "trainer/loop_options.h"

namespace autoglm {

// One optimizer step over all ranks.
struct StepReport {
  std::int64_t step = 0;       // from 1
  double epoch = 0;            // passes over the data after this step
  std::optional<double> loss;  // none: nothing was supervised, nothing updated
  double learning_rate = 0;
  std::optional<double> gradient_norm;  // before clipping
  std::int64_t tokens = 0;              // padding not counted
  std::int64_t supervised_tokens = 0;
  double seconds = 0;
  double exposed_seconds = 0;  // in which this rank's compute waited for communication and transfers
};

// Called on every rank; the collectives of observers must be the same on all.
struct LoopObserver {
  std::function<void(const StepReport&)> on_step;
  std::function<void(std::int64_t step, double loss)> on_evaluation;
  // Before the micro-batches of a step run, also when it is run again.
  std::function<void(std::int64_t step)> before_step = {};
  // Some ranks ran out of memory in a step or an evaluation, which is void and will be run again: the engine
  // may be given another strategy. Throws what ends the training; without it, AgreedError(does_not_fit).
  std::function<void(std::int64_t step, std::int64_t num_ranks)> on_out_of_memory = {};
};

// Counts the rows of every epoch that is trained, for BatchPlan: the same on every rank. With `steps`, as
// many epochs as they reach into.
std::vector<std::int64_t> count_rows(const Dataset& dataset, const LoopOptions& options);

class TrainingLoop {
 public:
  // All referenced objects but `plan` must outlive the loop. `plan` was made for the communicator's size and
  // the engine's micro-batch. Throws Error(usage) when the warm-up is longer than it.
  TrainingLoop(Engine& engine, const Dataset& dataset, const BatchPlan& plan, Communicator& communicator,
               const LoopOptions& options, LoopObserver observer);

  // Evaluates, then trains all steps with evaluations between them; the one after the last step is left to
  // the caller. Throws AgreedError(not_finite) when a loss or a gradient is not finite; nothing was updated
  // with it.
  void run();

  // Mean loss over the supervised tokens of the validation set, the same on all ranks; none when there is no
  // validation set. Reports it to the observer as belonging to `step`. Throws AgreedError(not_finite).
  std::optional<double> evaluate(std::int64_t step);

 private:
  void train_step(std::int64_t index);
  StepSums accumulate(const StepRows& step, double supervised);
  // Sums of the step, run as often as memory runs out in it.
  StepSums accumulate_until_it_fits(std::int64_t index, double supervised);
  void recover(std::int64_t step, std::int64_t num_ranks);
  void fill(const RowPlan& rows, const std::function<std::optional<std::int64_t>(std::int64_t slot)>& row_of);
  const RowPlan& epoch_rows(std::int64_t epoch);

  Engine& engine_;
  const Dataset& dataset_;
  BatchPlan plan_;
  Communicator& communicator_;
  LoopOptions options_;
  LearningRateSchedule schedule_;
  LoopObserver observer_;
  MicroBatch batch_;
  RowPlan validation_rows_;
  std::int64_t current_epoch_ = -1;
  RowPlan training_rows_;
};

}  // namespace autoglm
