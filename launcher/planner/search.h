// The fastest strategy that fits, and what became of the others. Of those whose estimates are within 3 % of
// the fastest, the one that moves the least to the host is taken: estimates are no better than that.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/planner/memory_budget.h"
#include "launcher/planner/memory_model.h"
#include "launcher/planner/strategy_space.h"
#include "launcher/planner/time_model.h"

namespace autoglm {

struct Candidate {
  Strategy strategy;
  MemoryPrice price;
  StepTime time;
  std::int64_t num_micro_batches = 1;
  // Bytes that are missing on the device and on the host; 0 where it fits.
  std::int64_t device_missing = 0;
  std::int64_t host_missing = 0;

  bool fits() const { return device_missing == 0 && host_missing == 0; }
};

// A plan that was rehearsed from end to end.
struct Plan {
  Candidate chosen;
  MemoryStatistics predicted;
  // The best of every way to lay out memory (stage, source of weights, offloading), the chosen one included,
  // by time; those that do not fit last, by what is missing.
  std::vector<Candidate> alternatives;
  // Candidates that fitted by their price and not in the rehearsal, with both figures.
  std::vector<std::string> overruns;
  std::int64_t num_priced = 0;
};

class Search {
 public:
  // `memory` must outlive the search. `global_batch` in rows over all ranks.
  Search(MemoryModel& memory, const Rates& rates, const StrategyPins& pins, std::int64_t global_batch,
         const MemoryBudget& budget);

  // Only strategies that `admits` accepts are considered: for a plan that must follow from an earlier one.
  void restrict_to(std::function<bool(const Strategy&)> admits) { admits_ = std::move(admits); }

  // The plan, or none when nothing fits.
  std::optional<Plan> run();

  // The same, sooner where nothing fits by far; then there is no nearest().
  std::optional<Plan> run_unless_hopeless();

  // The plan that needs the least host memory, however slow, with all of the host's memory that it needs.
  std::optional<Plan> run_leanest_on_host();

  // Prices one strategy against the budget; close to it, what it says to fit is rehearsed.
  Candidate judge_closely(const Strategy& strategy);

  // Prices one strategy against the budget.
  Candidate judge(const Strategy& strategy);

  // The strategy that misses the budget by least, after run() has found none; none when nothing was admitted.
  const std::optional<Candidate>& nearest() const { return nearest_; }

  TimeModel& times() { return times_; }

 private:
  std::vector<Candidate> candidates(std::int64_t head_chunks);
  void judge_with_offload(const Strategy& strategy, std::vector<Candidate>& to);
  void add_with_offload(const Strategy& base, std::vector<Candidate>& to);
  // Whether the fewest rows, recomputed in all layers, with the smallest pieces of the head, miss the budget
  // in every layout by more than gaps between tensors could explain: then all else does, needing more.
  bool hopeless();
  enum class Goal { fastest, least_host };
  std::optional<Plan> choose(std::int64_t head_chunks, Goal goal);
  // On a CUDA device every chunk of the head reads and writes the gradient of its whole matrix, so it takes as few as
  // the plan has room for. That does not hang on speeds, which a probe tells a little differently every time, since
  // it changes last bits.
  void take_fewer_chunks(Plan& plan);
  // Bytes between allocations that steps of this shape were seen to leave unused.
  std::int64_t holes_of(const Strategy& strategy) const;

  MemoryModel& memory_;
  TimeModel times_;
  StrategySpace space_;
  std::int64_t global_batch_;
  MemoryBudget budget_;
  std::optional<Candidate> nearest_;
  std::map<Strategy, std::int64_t> holes_;  // by the shape of a step
  std::function<bool(const Strategy&)> admits_;
};

}  // namespace autoglm
