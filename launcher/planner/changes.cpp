#include "launcher/planner/changes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/units.h"

namespace autoglm {
namespace {

constexpr std::int64_t kShortestRows = 256;
constexpr int kMostRanks = 64;

// Tries of a larger limit, each this much above the last.
constexpr int kMostLimits = 4;
constexpr double kLimitGrowth = 1.02;

struct Change {
  std::string option;  // what to write
  StrategyPins pins;
  MemoryQuestion question;
  bool more_host_memory = false;
};

// What the opt-ins are, over `pins`.
std::vector<std::pair<std::string, StrategyPins>> inexact_pins(const StrategyPins& pins) {
  std::vector<std::pair<std::string, StrategyPins>> list;
  if (pins.reduce != ReduceMode::micro_batch) return list;
  StrategyPins next = pins;
  if (!pins.bf16_gradients) {
    next.bf16_gradients = true;
    list.emplace_back("--gradient-dtype bf16", next);
  }
  if (!pins.bf16_moments) {
    next.bf16_moments = true;
    list.emplace_back(
        pins.bf16_gradients ? "--moment-dtype bf16" : "--gradient-dtype bf16 --moment-dtype bf16", next);
  }
  return list;
}

// The cheapest first.
std::vector<Change> changes(const StrategyPins& pins, const MemoryQuestion& question) {
  std::vector<Change> list;
  list.push_back({"the strategy's options left to auto", without_choices(pins), question});
  for (auto& [option, next] : inexact_pins(pins)) list.push_back({option, next, question});
  if (pins.reduce != ReduceMode::micro_batch) {
    StrategyPins every = pins;
    every.reduce = ReduceMode::micro_batch;
    list.push_back({"--reduce micro-batch", every, question});
  }
  return list;
}

// What costs more: quality, or hardware.
std::vector<Change> costly_changes(const StrategyPins& pins, const PlanWish& wish) {
  const MemoryQuestion& question = wish.question;
  std::vector<Change> list;
  for (std::int64_t length = question.row_length / 2; length >= kShortestRows; length /= 2) {
    MemoryQuestion shorter = question;
    shorter.max_positions -= question.row_length - length;
    shorter.row_length = length;
    list.push_back({fmt::format("--sequence-length {}", length), pins, shorter});
  }
  const MemoryBudget budget = wish.budget(question.world_size);
  if (!budget.shared && budget.host) list.push_back({"of host memory per rank", pins, question, true});
  for (int ranks = 2 * question.world_size; ranks <= kMostRanks; ranks *= 2) {
    MemoryQuestion wider = question;
    wider.world_size = ranks;
    list.push_back({wish.ranks_text ? wish.ranks_text(ranks) : fmt::format("{} ranks", ranks), pins, wider});
  }
  return list;
}

MemoryCategory largest_category(const MemoryUse& use) {
  std::size_t largest = 0;
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    if (use.by_category[i] > use.by_category[largest]) largest = i;
  }
  return static_cast<MemoryCategory>(largest);
}

std::optional<Plan> plan_with(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish,
                              const MemoryBudget& budget) {
  return Search(memory, wish.rates, pins, wish.global_batch, budget).run_unless_hopeless();
}

std::string advice(std::string_view option, const Plan& plan) {
  return fmt::format("it would fit with {} ({})", option, describe_strategy(plan.chosen.strategy));
}

std::optional<std::string> first_that_fits(const std::vector<Change>& changes, const PlanWish& wish) {
  for (const Change& change : changes) {
    MemoryModel memory(change.question);
    MemoryBudget budget = wish.budget(change.question.world_size);
    if (change.more_host_memory) budget.host.reset();
    const std::optional<Plan> plan = plan_with(memory, change.pins, wish, budget);
    if (!plan) continue;
    if (!change.more_host_memory) return advice(change.option, *plan);
    return advice(format_bytes(plan->predicted.host.extent) + " " + change.option, *plan);
  }
  return std::nullopt;
}

// Little more than what the nearest strategy needs; else the whole device.
std::optional<std::string> larger_limit(const StrategyPins& pins, const PlanWish& wish,
                                        const Candidate& nearest) {
  if (!wish.unlimited || nearest.device_missing == 0) return std::nullopt;
  MemoryModel memory(wish.question);
  MemoryBudget budget = *wish.unlimited;
  auto bytes = static_cast<double>(wish.budget(wish.question.world_size).device + nearest.device_missing);
  for (int tries = 0; tries < kMostLimits; ++tries, bytes *= kLimitGrowth) {
    const auto limit = static_cast<std::int64_t>(std::ceil(bytes / (1 << 20)));
    budget.device = tries + 1 < kMostLimits ? limit << 20 : wish.unlimited->device;
    if (budget.device > wish.unlimited->device) continue;
    if (const std::optional<Plan> plan = plan_with(memory, pins, wish, budget))
      return advice(tries + 1 < kMostLimits ? fmt::format("{} {}MiB", wish.limited_by, limit)
                                            : fmt::format("no {}", wish.limited_by),
                    *plan);
  }
  return std::nullopt;
}

std::string missing(std::string_view where, std::int64_t bytes, const MemoryUse& use) {
  return fmt::format("{} too much on the {}, most of it for {}", format_bytes(bytes), where,
                     category_name(largest_category(use)));
}

}  // namespace

std::string cheapest_change(const StrategyPins& pins, const PlanWish& wish, const Candidate* nearest) {
  if (const auto advice = first_that_fits(changes(pins, wish.question), wish)) return *advice;
  if (nearest != nullptr) {
    if (const auto advice = larger_limit(pins, wish, *nearest)) return *advice;
  }
  if (const auto advice = first_that_fits(costly_changes(pins, wish), wish)) return *advice;
  return fmt::format("no single change would make it fit; {}use a larger device or a smaller model",
                     wish.limited_by.empty() ? "" : fmt::format("raise {}, or ", wish.limited_by));
}

std::string why_nothing_fits(const Search& search, const StrategyPins& pins, const PlanWish& wish) {
  if (!search.nearest()) return "no strategy is possible with these settings; " + cheapest_change(pins, wish);
  const Candidate& nearest = *search.nearest();
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  std::vector<std::string> shortages;
  if (nearest.device_missing > 0)
    shortages.push_back(fmt::format("{} in the {} phase",
                                    missing("device", nearest.device_missing, nearest.price.device),
                                    phase_name(nearest.price.device_phase)));
  if (nearest.host_missing > 0)
    shortages.push_back(missing("host", nearest.host_missing, nearest.price.host));
  // With the gaps between tensors, which the price leaves out.
  const std::int64_t on_device = nearest.device_missing > 0 && !budget.shared
                                     ? budget.device + nearest.device_missing
                                     : nearest.price.device.total;
  return fmt::format(
      "nothing fits: a rank may use {} of the device{}{}, and the strategy that comes nearest needs {} and "
      "{} on the host ({}, micro-batch {}): {}; {}",
      format_bytes(budget.device), wish.limited_by.empty() ? "" : fmt::format(" ({})", wish.limited_by),
      budget.host ? fmt::format(" and {} of the host's memory", format_bytes(*budget.host)) : "",
      format_bytes(on_device), format_bytes(nearest.price.host.total), describe_strategy(nearest.strategy),
      nearest.strategy.micro_batch, fmt::join(shortages, ", and "), cheapest_change(pins, wish, &nearest));
}

std::vector<OptIn> opt_ins(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish) {
  std::vector<OptIn> list;
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  for (const auto& [option, next] : inexact_pins(pins)) {
    if (std::optional<Plan> plan = plan_with(memory, next, wish, budget))
      list.push_back({option, std::move(*plan)});
  }
  return list;
}

}  // namespace autoglm
