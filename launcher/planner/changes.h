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
};

// "it would fit with --gradient-dtype bf16 (zero3, ...)": the first of these that does: pins given up,
// opt-ins that change last bits or none of them, a larger limit, shorter rows, more host memory, more ranks.
// A sentence that says so when none does. `nearest` is what missed the budget by least, if that is known.
std::string cheapest_change(const StrategyPins& pins, const PlanWish& wish,
                            const Candidate* nearest = nullptr);

// One sentence after a search that found nothing: what is missing, in which phase and category, and the
// cheapest change.
std::string why_nothing_fits(const Search& search, const StrategyPins& pins, const PlanWish& wish);

// What an opt-in that changes last bits would bring beside a plan that fits.
struct OptIn {
  std::string option;
  Plan plan;
};
// `memory` is a model of the wish's question: what it has rehearsed is not rehearsed again.
std::vector<OptIn> opt_ins(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish);

}  // namespace autoglm
