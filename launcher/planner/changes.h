// What a person could change where nothing fits, or to go faster.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "launcher/planner/search.h"

namespace autoglm {

// What a plan is made for, so that it can be made again with one thing changed.
struct PlanWish {
  MemoryQuestion question;
  Rates rates;
  std::int64_t global_batch = 16;
  std::function<MemoryBudget(int ranks)> budget;          // of one rank among so many
  std::string limited_by = "";                            // the option that sets the budget, if one does
  std::optional<MemoryBudget> unlimited = {};             // one rank's without that option, where it is known
  std::function<std::string(int ranks)> ranks_text = {};  // how to ask for more ranks; none: "16 ranks"
  int ranks_per_node = 0;                                 // of a full node; more ranks come node by node
  // How to ask for so many bytes of the host for each rank; none: "20 GiB of host memory per rank".
  std::function<std::string(std::int64_t bytes)> host_text = {};
  // What else could be trained where no change makes this fit, as the ends of a sentence.
  std::function<std::vector<std::string>()> instead = {};
};

// "it would fit with --gradient-dtype bf16 (zero3, ...)": the first of these that does: pins given up, opt-ins
// that change last bits, a larger limit; else the least of each that does of shorter rows, more host memory and
// more ranks, alone or with those opt-ins. A sentence that says so when nothing does. `nearest` is what missed
// the budget by least, if that is known.
std::string cheapest_change(const StrategyPins& pins, const PlanWish& wish,
                            const Candidate* nearest = nullptr);

// One sentence after a search that found nothing: what is missing, in which phase and category, and the
// cheapest change.
std::string why_nothing_fits(const Search& search, const StrategyPins& pins, const PlanWish& wish);

// What a change to the numbers would bring beside a plan that fits.
struct OptIn {
  std::string option;
  Plan plan;
  std::int64_t global_batch = 0;  // of that plan
  double gain = 0;                // tokens per second over those of the plan that fits, less 1
};

// The opt-ins that change last bits and gain at least one percent over `plan`. `memory` is a model of the wish's
// question: what it has rehearsed is not rehearsed again.
std::vector<OptIn> opt_ins(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish,
                           const Plan& plan);

// Larger global batches, each a good deal faster than the one before, where links or the optimizer's step take a
// good part of the time of `plan`, or ranks are idle.
std::vector<OptIn> larger_batches(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish,
                                  const Plan& plan);

}  // namespace autoglm
