// Going on after a rank ran out of memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "launcher/job/job_plan.h"
#include "launcher/report/memory_watch.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/engine/engine.h"
#include "trainer/loop_listener.h"

namespace autoglm {

class MemoryRecovery : public LoopListener {
 public:
  // All references must outlive the object; `job` follows the changes. `device_limit` tells what this rank's
  // device pool holds. `on_event` is called on every rank.
  MemoryRecovery(const TrainOptions& options, JobPlan& job, Communicator& communicator,
                 std::function<std::int64_t()> device_limit,
                 std::function<void(const MemoryEvent&)> on_event);

  // From now on it is this engine's memory, which must outlive the loop.
  void attach(Engine& engine) { engine_ = &engine; }

  // Memory ran out in `step` under the engine's strategy. Where the plan should have fitted, the step is
  // tried once more as it is; otherwise the engine goes on with a smaller plan. Throws
  // AgreedError(does_not_fit) when none is left or --on-oom stop was given. Collective.
  bool out_of_memory(std::int64_t step, std::int64_t num_ranks) override;

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
  Engine* engine_ = nullptr;
  std::int64_t last_step_ = -1;  // in which the same plan was tried again
};

}  // namespace autoglm
