// Going on after a rank ran out of memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "launcher/job/job_plan.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/engine/engine.h"

namespace autoglm {

// What happened, for the log and metrics.jsonl.
struct MemoryEvent {
  std::int64_t step = 0;
  std::string what;      // "rank 1 ran out of memory in the backward phase: ..."
  std::string strategy;  // from now on
  std::int64_t micro_batch = 1;
  bool changes_bits = false;
};

class MemoryRecovery {
 public:
  // All references must outlive the object; `job` follows the changes. `device_limit` tells what this rank's
  // device pool holds. `on_event` is called on every rank.
  MemoryRecovery(const TrainOptions& options, JobPlan& job, Communicator& communicator,
                 std::function<std::int64_t()> device_limit,
                 std::function<void(const MemoryEvent&)> on_event);

  // Memory ran out in `step` under the engine's strategy. Where the plan should have fitted, the step is
  // tried once more as it is; otherwise the engine goes on with a smaller plan. Throws
  // AgreedError(does_not_fit) when none is left or --on-oom stop was given. Collective.
  void recover(Engine& engine, std::int64_t step);

  // The same before there is an engine: its construction ran out of memory on some rank, or on none (`error`
  // null here and everywhere: returns false).
  bool recover_construction(const OutOfMemory* error);

 private:
  std::string describe_failures(const std::string& mine);
  Plan next_plan(std::int64_t step, const std::string& what);

  const TrainOptions& options_;
  JobPlan& job_;
  Communicator& communicator_;
  std::function<std::int64_t()> device_limit_;
  std::function<void(const MemoryEvent&)> on_event_;
  std::int64_t last_step_ = -1;  // in which the same plan was tried again
};

}  // namespace autoglm
