#include "launcher/job/disk_patience.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>

namespace autoglm {

void DiskPatience::wait(const DiskFull& error, const std::function<bool()>& has_room) {
  using std::chrono::milliseconds;
  constexpr milliseconds kMinute = std::chrono::minutes(1), kLook = std::chrono::seconds(1);
  if (stopped_ || left_ <= milliseconds(0)) throw error;
  spdlog::warn("{}; the trained model waits for it, for {} minutes more", error.what(),
               std::chrono::ceil<std::chrono::minutes>(left_).count());
  waiting_ = true;
  for (milliseconds waited{0}; waited < kMinute && left_ > milliseconds(0) && !stopped_;) {
    const milliseconds pause = std::min(kLook, left_);
    std::this_thread::sleep_for(pause);
    waited += pause;
    left_ -= pause;
    if (has_room()) break;
  }
  waiting_ = false;
  if (stopped_) throw error;
}

bool DiskPatience::stop() {
  if (!waiting_) return false;
  stopped_ = true;
  return true;
}

}  // namespace autoglm
