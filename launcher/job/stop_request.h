// Whether the run has been asked to end after a checkpoint: by a signal (SIGUSR1, SIGUSR2, others where their sender
// waits), or by --stop-after.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

namespace autoglm {

class StopRequest {
 public:
  using Clock = std::chrono::system_clock;

  // `after` so long from now on, if given, it is asked for. `job_end`: when the whole job is ended, where that is known.
  explicit StopRequest(std::optional<double> after = {}, std::optional<Clock::time_point> job_end = {});

  // By a signal whose sender kills `patience` seconds later. From any thread. Returns whether it is the first time: who
  // asks twice does not want to wait.
  bool ask(double patience) noexcept;

  bool asked() const noexcept;

  // Until the run is killed, as far as that is known; kNoEnd otherwise. Not below 0.
  double seconds_left() const noexcept;
  static constexpr double kNoEnd = 1e9;

 private:
  std::optional<Clock::time_point> time_, job_end_;
  std::atomic<bool> asked_ = false;
  std::atomic<Clock::rep> killed_at_ = 0;  // ticks; 0: by no one
};

}  // namespace autoglm
