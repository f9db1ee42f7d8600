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
#include "trainer/loop_listener.h"
#include "trainer/loop_options.h"

namespace autoglm {

// Counts the rows of every epoch that is trained, for BatchPlan: the same on every rank. With `steps`, as
// many epochs as they reach into.
std::vector<std::int64_t> count_rows(const Dataset& dataset, const LoopOptions& options);

class TrainingLoop {
 public:
  // All objects but `plan` must outlive the loop. `plan` was made for the communicator's size and
  // the engine's micro-batch. Throws Error(usage) when the warm-up is longer than it.
  TrainingLoop(Engine& engine, const Dataset& dataset, const BatchPlan& plan, Communicator& communicator,
               const LoopOptions& options, std::vector<LoopListener*> listeners);

  // Evaluates, then trains all steps with evaluations between them; the one after the last step is left to
  // the caller. With `first_step` goes on after so many steps of an earlier run, where the first evaluation
  // was. Throws AgreedError: not_finite when a loss or a gradient is not finite (nothing was updated with
  // it), does_not_fit when ranks ran out of memory and no listener saw to it.
  void run(std::int64_t first_step = 0);

  // Mean loss over the supervised tokens of the validation set, the same on all ranks; none when there is no
  // validation set. Reports it to the listeners as belonging to `step`. Throws AgreedError(not_finite).
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
  std::vector<LoopListener*> listeners_;  // told in this order
  MicroBatch batch_;
  RowPlan validation_rows_;
  std::int64_t current_epoch_ = -1;
  RowPlan training_rows_;
};

}  // namespace autoglm
