#include "launcher/job/disk_patience.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <string_view>

namespace autoglm {
namespace {

using std::chrono::milliseconds;

// From the end of waiting to that of the job.
constexpr std::chrono::seconds kLastWords{30};

}  // namespace

DiskPatience::DiskPatience(std::chrono::seconds limit, std::optional<TimePoint> job_end)
    : left_(limit), job_end_(job_end) {}

milliseconds DiskPatience::left() const {
  if (!job_end_) return left_;
  const auto until_end = *job_end_ - kLastWords - std::chrono::system_clock::now();
  return std::min(left_, std::chrono::duration_cast<milliseconds>(until_end));
}

void DiskPatience::wait(const DiskFull& error, const std::function<bool()>& has_room, std::string_view what) {
  constexpr milliseconds kMinute = std::chrono::minutes(1), kLook = std::chrono::seconds(1);
  std::unique_lock lock(mutex_);
  waiting_ = true;
  if (stopped_ || left() <= milliseconds(0)) throw error;
  spdlog::warn("{}; {} waits for it, for {} minutes more{}", error.what(), what,
               std::chrono::ceil<std::chrono::minutes>(left()).count(),
               left() < left_ ? ", when the job's time ends" : "");
  for (milliseconds waited{0}; waited < kMinute && left() > milliseconds(0) && !stopped_;) {
    const milliseconds pause = std::min(kLook, left());
    stopping_.wait_for(lock, pause, [&] { return stopped_; });
    waited += pause;
    left_ -= pause;
    if (!stopped_ && has_room()) break;
  }
  if (stopped_) throw error;
}

void DiskPatience::end() {
  const std::lock_guard lock(mutex_);
  waiting_ = false;
}

bool DiskPatience::stop() {
  const std::lock_guard lock(mutex_);
  if (!waiting_) return false;
  stopped_ = true;
  stopping_.notify_all();
  return true;
}

std::optional<DiskPatience::TimePoint> end_of_slurm_job(const char* variable) {
  const std::string_view text = variable == nullptr ? "" : variable;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size() || seconds <= 0) return std::nullopt;
  // As far ahead as a clock of nanoseconds goes; a job without a limit may say more.
  constexpr std::int64_t kLatest = std::int64_t{1} << 33;
  return DiskPatience::TimePoint(std::chrono::seconds(std::min(seconds, kLatest)));
}

}  // namespace autoglm
