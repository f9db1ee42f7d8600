#include "trainer/data/batch_plan.h"

#include <algorithm>

#include "base/error.h"
#include "base/math.h"

namespace autoglm {

BatchPlan::BatchPlan(std::vector<std::int64_t> rows_per_epoch, std::int64_t global_batch,
                     std::int64_t world_size, std::int64_t micro_batch, std::optional<std::int64_t> max_steps)
    : rows_per_epoch_(std::move(rows_per_epoch)),
      global_batch_(global_batch),
      world_size_(world_size),
      micro_batch_(micro_batch) {
  AUTOGLM_CHECK(global_batch_ >= 1 && world_size_ >= 1 && micro_batch_ >= 1);
  for (const std::int64_t rows : rows_per_epoch_) {
    AUTOGLM_CHECK(rows >= 1, "an epoch without rows");
    first_steps_.push_back(num_steps_);
    num_steps_ += divide_up(rows, global_batch_);
  }
  if (max_steps) num_steps_ = std::min(num_steps_, *max_steps);
}

StepRows BatchPlan::step(std::int64_t index) const {
  AUTOGLM_CHECK(index >= 0 && index < num_steps_, "step {} of {}", index, num_steps_);
  const auto next = std::upper_bound(first_steps_.begin(), first_steps_.end(), index);
  StepRows step;
  step.epoch = next - first_steps_.begin() - 1;
  const auto epoch = static_cast<std::size_t>(step.epoch);
  step.first_row = (index - first_steps_[epoch]) * global_batch_;
  step.num_rows = std::min(global_batch_, rows_per_epoch_[epoch] - step.first_row);
  step.num_micro_batches = divide_up(step.num_rows, micro_batch_ * world_size_);
  return step;
}

bool BatchPlan::ends_epoch(std::int64_t index) const {
  const StepRows rows = step(index);
  return index + 1 == num_steps_ ||
         rows.first_row + rows.num_rows == rows_per_epoch_[static_cast<std::size_t>(rows.epoch)];
}

std::optional<std::int64_t> BatchPlan::row_at(const StepRows& step, std::int64_t micro_batch,
                                              std::int64_t rank, std::int64_t slot) const {
  AUTOGLM_CHECK(rank >= 0 && rank < world_size_ && slot >= 0 && slot < micro_batch_);
  const std::int64_t row = (micro_batch * world_size_ + rank) * micro_batch_ + slot;
  if (row >= step.num_rows) return std::nullopt;
  return step.first_row + row;
}

}  // namespace autoglm
