#include "launcher/report/memory_watch.h"

#include <spdlog/spdlog.h>

#include <cstdlib>

#include "base/units.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

// The first step allocates what the first step of all allocates; the second one shows what stays.
constexpr std::int64_t kSettlingSteps = 2;
// Predictions further off than this are worth a warning.
constexpr double kTolerance = 0.01;
constexpr double kHighShare = 0.9;

// Of this rank: which category is furthest above (or below) what was foreseen for it.
std::string worst_category(const MemoryUse& predicted) {
  const MemoryUse measured = job_memory().statistics().device.peak;
  std::size_t worst = 0;
  const auto off = [&](std::size_t i) {
    return std::abs(measured.by_category[i] - predicted.by_category[i]);
  };
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    if (off(i) > off(worst)) worst = i;
  }
  return fmt::format("{}: {} instead of {}", category_name(static_cast<MemoryCategory>(worst)),
                     format_bytes(measured.by_category[worst]), format_bytes(predicted.by_category[worst]));
}

}  // namespace

void MemoryWatch::step(std::int64_t step, std::int64_t device_peak) {
  ++steps_of_plan_;
  const std::int64_t predicted = expected_.device_peak();
  const MemoryUse& predicted_use = expected_.predicted.device.peak;
  if (steps_of_plan_ == kSettlingSteps) {
    settled_peak_ = device_peak;
    const double off = static_cast<double>(device_peak) / static_cast<double>(predicted) - 1;
    if (std::abs(off) > kTolerance) {
      spdlog::warn("the device's peak is {}, {:+.1f} % of the {} foreseen; most of it is {}",
                   format_bytes(device_peak), 100 * off, format_bytes(predicted),
                   worst_category(predicted_use));
    }
  }
  if (warned_) return;
  const auto budget = static_cast<double>(expected_.device_budget);
  warned_ = true;
  if (device_peak > predicted) {
    spdlog::warn("step {}: {} are in use on the device, more than the {} foreseen ({})", step,
                 format_bytes(device_peak), format_bytes(predicted), worst_category(predicted_use));
  } else if (settled_peak_ > 0 && device_peak > settled_peak_) {
    spdlog::warn("step {}: memory on the device grows from step to step, {} now and {} after step {}", step,
                 format_bytes(device_peak), format_bytes(settled_peak_), kSettlingSteps);
  } else if (static_cast<double>(device_peak) > kHighShare * budget &&
             static_cast<double>(predicted) <= kHighShare * budget) {
    spdlog::warn("step {}: {} of {} of the device are in use, where the plan left more room", step,
                 format_bytes(device_peak), format_bytes(expected_.device_budget));
  } else {
    warned_ = false;
  }
}

void MemoryWatch::out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted) {
  const bool same = predicted.device.peak.total == expected_.device_peak();
  spdlog::warn("{}; {}{}", event.what, same ? "trying again with " : "going on with ",
               event.changes_bits
                   ? fmt::format("{} and micro-batches of {}: the global batch stays, last bits change",
                                 event.strategy, event.micro_batch)
                   : event.strategy);
  expected_.predicted = predicted;
  steps_of_plan_ = settled_peak_ = 0;
}

}  // namespace autoglm
