// Waiting for room on a full disk, when all that is left of a run is to write its model.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>

#include "checkpoint/file.h"

namespace autoglm {

class DiskPatience {
 public:
  using TimePoint = std::chrono::system_clock::time_point;

  // For so long in all, over every wait, and not beyond the time at which the whole job is ended, where that is
  // known: some of it is left for the message that says how to finish.
  explicit DiskPatience(std::chrono::seconds limit = std::chrono::minutes(30),
                        std::optional<TimePoint> job_end = {});

  // Says what is missing, at once and every minute, and returns when it is worth trying again: when
  // `has_room`, which is asked every second, says so, and every minute in any case (a quota cannot be seen).
  // Throws `error` when the time is over or stop() was called. `what` waits.
  void wait(const DiskFull& error, const std::function<bool()>& has_room,
            std::string_view what = "the trained model");

  // Waiting has come to a good end.
  void end();

  // Ends a wait, from another thread. Returns whether there is one: from a first wait() until end(), what is tried
  // between two of them included.
  bool stop();

 private:
  std::chrono::milliseconds left() const;

  std::chrono::milliseconds left_;
  std::optional<TimePoint> job_end_;
  std::mutex mutex_;
  std::condition_variable stopping_;
  bool waiting_ = false;
  bool stopped_ = false;
};

// When Slurm ends the job, from its SLURM_JOB_END_TIME (seconds since 1970); nothing where that says no time.
std::optional<DiskPatience::TimePoint> end_of_slurm_job(const char* variable);

}  // namespace autoglm
