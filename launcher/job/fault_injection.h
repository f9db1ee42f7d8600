// Faults that tests ask for through the environment; nothing happens where the variables are not set.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "trainer/loop_listener.h"

namespace autoglm {

// AUTOGLM_FAULT_OUT_OF_MEMORY=RANK:STEP:ALLOCATION[,...]: that allocation of the step fails on that rank.
// Several for one step fail its attempts one after the other. AUTOGLM_FAULT_ARENA_LIMIT=BYTES: the device's
// pool holds no more, though the plan does not know. AUTOGLM_FAULT_DISK_PATIENCE=SECONDS: a full disk is waited
// out for so long at the end of the run. AUTOGLM_FAULT_STOP_PATIENCE=SECONDS: who sends SIGTERM kills so much later.
// AUTOGLM_FAULT_SAVE=RANK:STEP[,...]: writing the checkpoint of that step (0: of any) fails once on that rank, as on a
// full disk. AUTOGLM_FAULT_SAVE_RETRY=SECONDS: a failed save is tried again so much later.
// AUTOGLM_FAULT_SAVES_ALONE=1: training stands still until a save is in place, so that none is left out.
class FaultInjection : public LoopListener {
 public:
  // Reads the environment. Throws Error(usage) when it cannot be understood.
  explicit FaultInjection(int rank);

  // Before the micro-batches of a step.
  void before_step(std::int64_t step) override;

  const std::optional<std::int64_t>& arena_limit() const { return arena_limit_; }
  const std::optional<std::int64_t>& disk_patience_seconds() const { return disk_patience_seconds_; }
  const std::optional<std::int64_t>& stop_patience_seconds() const { return stop_patience_seconds_; }
  const std::vector<std::int64_t>& failing_saves() const { return failing_saves_; }
  const std::optional<std::int64_t>& save_retry_seconds() const { return save_retry_seconds_; }
  bool saves_alone() const { return saves_alone_; }

 private:
  struct Fault {
    std::int64_t step = 0;
    std::int64_t allocation = 0;
  };
  std::deque<Fault> faults_;
  std::optional<std::int64_t> arena_limit_;
  std::optional<std::int64_t> disk_patience_seconds_, stop_patience_seconds_, save_retry_seconds_;
  std::vector<std::int64_t> failing_saves_;  // steps
  bool saves_alone_ = false;
};

}  // namespace autoglm
