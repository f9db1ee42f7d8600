#include "trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace autoglm {

double LearningRateSchedule::learning_rate(std::int64_t step) const {
  if (step <= warmup_steps) return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  const double after = static_cast<double>(std::max<std::int64_t>(1, total_steps - warmup_steps));
  const double progress = static_cast<double>(step - 1 - warmup_steps) / after;
  switch (kind) {
    case ScheduleKind::cosine:
      return peak * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case ScheduleKind::linear:
      return peak * (1 - progress);
    case ScheduleKind::constant:
      return peak;
    case ScheduleKind::wsd: {
      constexpr double kDecay = 0.2;
      return peak * std::min(1.0, (1 - progress) / kDecay);
    }
  }
  return peak;
}

std::int64_t warmup_steps(double warmup, std::int64_t total_steps) {
  if (!(warmup >= 0))
    fail(ExitCode::usage, "--warmup is {}; give a fraction below 1 or a number of steps", warmup);
  const double steps = warmup < 1 ? std::round(warmup * static_cast<double>(total_steps)) : warmup;
  if (steps != std::floor(steps))
    fail(ExitCode::usage, "--warmup is {}; a number of steps must be whole", warmup);
  if (steps > static_cast<double>(total_steps)) {
    fail(ExitCode::usage, "--warmup is {} steps, but the run has only {}", steps, total_steps);
  }
  return static_cast<std::int64_t>(steps);
}

LearningRateSchedule make_schedule(const ScheduleOptions& options, std::int64_t total_steps) {
  return {options.kind, options.peak, warmup_steps(options.warmup, total_steps), total_steps};
}

}  // namespace autoglm
