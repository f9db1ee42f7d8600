// Which rows each step trains, and which rank sees them in which micro-batch.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace autoglm {

// The rows of one step: `num_rows` rows of an epoch from `first_row` on.
struct StepRows {
  std::int64_t epoch = 0;
  std::int64_t first_row = 0;
  std::int64_t num_rows = 0;
  std::int64_t num_micro_batches = 0;
};

// All numbers are known before the first step. Steps and epochs count from 0.
class BatchPlan {
 public:
  // `rows_per_epoch`: the number of rows of every epoch that is trained. The rows of an epoch are cut into
  // steps of `global_batch` rows; the last step of an epoch trains what is left. `max_steps` ends the plan
  // early.
  BatchPlan(std::vector<std::int64_t> rows_per_epoch, std::int64_t global_batch, std::int64_t world_size,
            std::int64_t micro_batch, std::optional<std::int64_t> max_steps = std::nullopt);

  std::int64_t num_steps() const { return num_steps_; }
  StepRows step(std::int64_t index) const;

  // Whether the step is the last of its epoch, or of the plan.
  bool ends_epoch(std::int64_t index) const;

  // The same steps with the same rows, in micro-batches of another size.
  BatchPlan with_micro_batch(std::int64_t micro_batch) const {
    BatchPlan plan = *this;
    plan.micro_batch_ = micro_batch;
    return plan;
  }

  // The row of the epoch in a slot of a rank's micro-batch; nothing where rows are missing. Row k of a step
  // goes to micro-batch k / (micro_batch * world_size), rank k / micro_batch % world_size, slot k %
  // micro_batch: so ranks get neighbouring rows, and only the last micro-batch of a step has empty slots.
  std::optional<std::int64_t> row_at(const StepRows& step, std::int64_t micro_batch, std::int64_t rank,
                                     std::int64_t slot) const;

 private:
  std::vector<std::int64_t> rows_per_epoch_;
  std::vector<std::int64_t> first_steps_;  // of every epoch
  std::int64_t global_batch_;
  std::int64_t world_size_;
  std::int64_t micro_batch_;
  std::int64_t num_steps_ = 0;
};

}  // namespace autoglm
