#include "launcher/job/fault_injection.h"

#include <algorithm>
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
constexpr const char* kSavesAlone = "AUTOGLM_FAULT_SAVES_ALONE";
constexpr const char* kSaveRetry = "AUTOGLM_FAULT_SAVE_RETRY";
constexpr const char* kSave = "AUTOGLM_FAULT_SAVE";

std::string_view take(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

// "1:2:3,4:5:6" as lists of `count` numbers each.
std::vector<std::vector<std::int64_t>> parse_faults(const char* variable, std::size_t count) {
  std::vector<std::vector<std::int64_t>> faults;
  const char* text = std::getenv(variable);
  std::string_view rest = text == nullptr ? "" : text;
  while (!rest.empty()) {
    std::string_view one = take(rest, ',');
    std::vector<std::int64_t>& numbers = faults.emplace_back(count);
    for (std::int64_t& number : numbers) number = parse_integer(take(one, ':'), {}, variable);
  }
  return faults;
}

}  // namespace

FaultInjection::FaultInjection(int rank) {
  if (const char* limit = std::getenv(kLimit)) arena_limit_ = parse_bytes(limit, kLimit);
  if (const char* seconds = std::getenv(kDiskPatience))
    disk_patience_seconds_ = parse_integer(seconds, {}, kDiskPatience);
  if (const char* seconds = std::getenv(kStopPatience))
    stop_patience_seconds_ = parse_integer(seconds, {}, kStopPatience);
  saves_alone_ = std::getenv(kSavesAlone) != nullptr;
  if (const char* seconds = std::getenv(kSaveRetry))
    save_retry_seconds_ = parse_integer(seconds, {}, kSaveRetry);
  for (const auto& fault : parse_faults(kFaults, 3))
    if (fault[0] == rank) faults_.push_back({fault[1], fault[2]});
  for (const auto& fault : parse_faults(kSave, 2))
    if (fault[0] == rank) failing_saves_.push_back(fault[1]);
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
