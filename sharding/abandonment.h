// That a communicator's owner has given up, and why.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace autoglm {

// Set by any thread, once: later reasons are consequences. Asked by others all the time.
class Abandonment {
 public:
  void set(std::string_view why) {
    const std::lock_guard lock(mutex_);
    if (is_set_) return;
    why_ = why;
    is_set_.store(true, std::memory_order_release);
  }

  std::optional<std::string> why() const {
    return is_set_.load(std::memory_order_acquire) ? std::optional(why_) : std::nullopt;
  }

  // Throws Error(peer_lost) if it is set.
  void check() const {
    if (is_set_.load(std::memory_order_acquire)) fail(ExitCode::peer_lost, "abandoned because {}", why_);
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> is_set_ = false;
  std::string why_;
};

}  // namespace autoglm
