// The plan of a job: budget, probe, search, and what its ranks agree on.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launcher/job/job_device.h"
#include "launcher/job/local_rank.h"
#include "launcher/options/train_options.h"
#include "launcher/planner/probe.h"
#include "launcher/planner/search.h"
#include "trainer/models/model.h"

namespace autoglm {

struct JobPlan {
  MemoryQuestion question;
  MemoryBudget budget;
  std::string limited_by;  // the option or limit that sets the budget of this rank, if one does
  ProbeResult probe;
  bool probed = false;
  Plan plan;
  std::optional<Products> products;  // of the CPU
  double seconds = 0;                // that planning took, the probe included
  std::int64_t fixed_resident = 0;   // of the process before the engine: libraries, MPI, data

  const Strategy& strategy() const { return plan.chosen.strategy; }
  // Resident memory at the peak of a step: every byte of the pools that was ever used stays resident, and the
  // process itself grows a little beyond what it was when it planned (stacks, buffers of the products,
  // bookkeeping).
  std::int64_t predicted_resident() const {
    constexpr std::int64_t kGrowth = std::int64_t{20} << 20;
    const bool device_is_host = question.target == ops::Target::cpu;
    return fixed_resident + (device_is_host ? plan.predicted.device.extent : 0) + plan.predicted.host.extent +
           kGrowth;
  }
};

// What every rank of this job may use: --memory-limit, else its share of the host's memory.
MemoryBudget cpu_budget(const StrategyOptions& options, const LocalRank& local, std::int64_t fixed_resident);

// The same on the device that was chosen: a CUDA device's pool is apart from the host's.
MemoryBudget job_budget(const StrategyOptions& options, const JobDevice& device, const LocalRank& local,
                        std::int64_t fixed_resident);

// Chooses on all ranks alike, from the smallest budget and the slowest rates among them; probes the device
// unless everything is pinned. Throws AgreedError(does_not_fit) with the cheapest change when nothing fits.
// Collective.
JobPlan plan_job(const TrainOptions& options, const Model& model, std::int64_t max_positions,
                 JobDevice& device, const LocalRank& local);

// After memory ran out under `failed`: the next best plan of the same job. `limit` is what the smallest
// device turned out to hold. First what keeps the numbers to the bit; only then smaller micro-batches. States
// are never gathered back. Throws Error(does_not_fit) when nothing smaller is left.
Plan plan_again(const TrainOptions& options, const JobPlan& job, const Strategy& failed, std::int64_t limit);

// For run.json.
nlohmann::ordered_json to_json(const JobPlan& job);

// A few lines: the choice, its bytes, and why the alternatives lost.
std::string describe(const JobPlan& job);

}  // namespace autoglm
