#include "launcher/job/stop_request.h"

#include <algorithm>

#include "launcher/job/ending_signals.h"

namespace autoglm {
namespace {

using Clock = StopRequest::Clock;

Clock::time_point after(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

double seconds_until(Clock::time_point time) {
  return std::max(0.0, std::chrono::duration<double>(time - Clock::now()).count());
}

}  // namespace

StopRequest::StopRequest(std::optional<double> seconds, std::optional<Clock::time_point> job_end)
    : job_end_(job_end) {
  if (seconds) time_ = after(*seconds);
}

bool StopRequest::ask(double patience) noexcept {
  if (asked_.exchange(true)) return false;
  killed_at_ = after(patience).time_since_epoch().count();
  return true;
}

bool StopRequest::asked() const noexcept {
  return asked_ || stop_signal_came() || (time_ && Clock::now() >= *time_);
}

double StopRequest::seconds_left() const noexcept {
  // Slurm sends SIGTERM at the job's end and kills later.
  if (const Clock::rep ticks = killed_at_) return seconds_until(Clock::time_point(Clock::duration(ticks)));
  return job_end_ ? seconds_until(*job_end_) : kNoEnd;
}

}  // namespace autoglm
