// Whether the run has been asked to end after a checkpoint: by a signal (SIGUSR1, SIGUSR2, others where their sender
// waits), or by --stop-after.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

namespace autoglm {

class StopRequest {
 public:
  // `seconds` from now on, if given, it is asked for.
  explicit StopRequest(std::optional<double> seconds);

  // From any thread. Returns whether it is the first time: who asks twice does not want to wait.
  bool ask() noexcept { return !asked_.exchange(true); }

  bool asked() const noexcept;

 private:
  std::optional<std::chrono::steady_clock::time_point> time_;
  std::atomic<bool> asked_ = false;
};

}  // namespace autoglm
