#include "launcher/job/fault_injection.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "base/units.h"
#include "launcher/options/option_values.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

constexpr const char* kFaults = "AUTOGLM_FAULT_OUT_OF_MEMORY";
constexpr const char* kLimit = "AUTOGLM_FAULT_ARENA_LIMIT";
constexpr const char* kDiskPatience = "AUTOGLM_FAULT_DISK_PATIENCE";
constexpr const char* kStopPatience = "AUTOGLM_FAULT_STOP_PATIENCE";

std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

}  // namespace

FaultInjection::FaultInjection(int rank) {
  if (const char* limit = std::getenv(kLimit)) arena_limit_ = parse_bytes(limit, kLimit);
  if (const char* seconds = std::getenv(kDiskPatience))
    disk_patience_seconds_ = parse_integer(seconds, {}, kDiskPatience);
  if (const char* seconds = std::getenv(kStopPatience))
    stop_patience_seconds_ = parse_integer(seconds, {}, kStopPatience);
  const char* text = std::getenv(kFaults);
  std::string_view rest = text == nullptr ? "" : text;
  while (!rest.empty()) {
    std::string_view one = take(rest, ',');
    std::array<std::int64_t, 3> numbers{};
    for (std::int64_t& number : numbers) number = parse_integer(take(one, ':'), {}, kFaults);
    if (numbers[0] == rank) faults_.push_back({numbers[1], numbers[2]});
  }
}

void FaultInjection::before_step(std::int64_t step) {
  job_memory().device().fail_allocation(0);
  const auto due =
      std::find_if(faults_.begin(), faults_.end(), [&](const Fault& fault) { return fault.step == step; });
  if (due == faults_.end()) return;
  job_memory().device().fail_allocation(due->allocation);
  faults_.erase(due);
}

}  // namespace autoglm
