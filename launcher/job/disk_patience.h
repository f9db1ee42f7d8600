// Waiting for room on a full disk, when all that is left of a run is to write its model.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>

#include "checkpoint/file.h"

namespace autoglm {

class DiskPatience {
 public:
  // For so long in all, over every wait.
  explicit DiskPatience(std::chrono::seconds limit = std::chrono::minutes(30)) : left_(limit) {}

  // Says what is missing, at once and every minute, and returns when it is worth trying again: when
  // `has_room`, which is asked every second, says so, and every minute in any case (a quota cannot be seen).
  // Throws `error` when the time is over or stop() was called.
  void wait(const DiskFull& error, const std::function<bool()>& has_room);

  // Ends a wait, from another thread. Returns whether there is one.
  bool stop();

 private:
  std::chrono::milliseconds left_;
  std::atomic<bool> waiting_ = false;
  std::atomic<bool> stopped_ = false;
};

}  // namespace autoglm
