// Learning rates by step.
#pragma once

#include <cstdint>
#include <string_view>

namespace autoglm {

enum class ScheduleKind { cosine, linear, constant, wsd };

// What a person sets.
struct ScheduleOptions {
  ScheduleKind kind = ScheduleKind::cosine;
  double peak = 1e-5;
  double warmup = 0.03;  // below 1: share of all steps; otherwise a whole number of steps
};

struct LearningRateSchedule {
  ScheduleKind kind;
  double peak;
  std::int64_t warmup_steps;
  std::int64_t total_steps;

  // Learning rate of step 1, 2, ..., total_steps. Warm-up rises linearly and reaches the peak at its last
  // step. Then: cosine and linear fall towards 0, as transformers' schedules do (the step after the last one
  // would be 0); constant stays; wsd (warm-up, stable, decay) stays and falls linearly over the last fifth.
  double learning_rate(std::int64_t step) const;
};

// Steps of a warm-up given as a fraction of all steps (below 1) or as a number of steps (1 or more). Throws
// Error(usage) when it is negative, not finite, or longer than the run.
std::int64_t warmup_steps(double warmup, std::int64_t total_steps);

// The schedule of a run of so many steps. Throws as warmup_steps() does.
LearningRateSchedule make_schedule(const ScheduleOptions& options, std::int64_t total_steps);

}  // namespace autoglm
