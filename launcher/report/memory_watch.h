// Measured memory beside what was foreseen.
#pragma once

#include <cstdint>
#include <string>

#include "sharding/memory/statistics.h"

namespace autoglm {

// What was foreseen for a rank.
struct MemoryExpectation {
  MemoryStatistics predicted;
  std::int64_t device_budget = 0;  // bytes
  std::int64_t resident = 0;       // bytes of the whole process, on a CPU; 0: not foreseen

  std::int64_t device_peak() const { return predicted.device.peak.total; }
};

// Memory ran out, and what became of it.
struct MemoryEvent {
  std::int64_t step = 0;
  std::string what;      // "rank 1 ran out of memory in the backward phase: ..."
  std::string strategy;  // from now on
  std::int64_t micro_batch = 1;
  bool changes_bits = false;
};

// Warns where the device's use is far from the prediction, above it, grows from step to step, or comes near
// the budget though the plan left room.
class MemoryWatch {
 public:
  explicit MemoryWatch(const MemoryExpectation& expected) : expected_(expected) {}

  // After a step with this peak, the largest of the ranks.
  void step(std::int64_t step, std::int64_t device_peak);

  // Says what happened; from now on `predicted` is what is expected.
  void out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted);

  const MemoryExpectation& expected() const { return expected_; }

 private:
  MemoryExpectation expected_;
  std::int64_t steps_of_plan_ = 0;  // since memory last ran out
  std::int64_t settled_peak_ = 0;   // after the first steps
  bool warned_ = false;
};

}  // namespace autoglm
