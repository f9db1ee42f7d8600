#include "launcher/planner/changes.h"

#include <fmt/format.h>

#include <utility>

#include "sharding/base/units.h"

namespace autoglm {
namespace {

constexpr std::int64_t kShortestRows = 256;
constexpr int kMostRanks = 64;

struct Change {
  std::string option;  // what to write
  StrategyPins pins;
  MemoryQuestion question;
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

// Only what changes last bits stays as it was asked for.
StrategyPins without_choices(const StrategyPins& pins) {
  StrategyPins open;
  open.bf16_gradients = pins.bf16_gradients;
  open.bf16_moments = pins.bf16_moments;
  open.reduce = pins.reduce;
  return open;
}

// The cheapest first.
std::vector<Change> changes(const StrategyPins& pins, const MemoryQuestion& question) {
  std::vector<Change> list;
  list.push_back({"the strategy's options left to auto", without_choices(pins), question});
  for (auto& [option, next] : inexact_pins(pins)) list.push_back({option, next, question});
  for (std::int64_t length = question.row_length / 2; length >= kShortestRows; length /= 2) {
    MemoryQuestion shorter = question;
    shorter.max_positions -= question.row_length - length;
    shorter.row_length = length;
    list.push_back({fmt::format("--sequence-length {}", length), pins, shorter});
  }
  for (int ranks = 2 * question.world_size; ranks <= kMostRanks; ranks *= 2) {
    MemoryQuestion wider = question;
    wider.world_size = ranks;
    list.push_back({fmt::format("{} ranks", ranks), pins, wider});
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

std::optional<Plan> plan_with(const StrategyPins& pins, const MemoryQuestion& question,
                              const PlanWish& wish) {
  MemoryModel memory(question);
  Search search(memory, wish.rates, pins, wish.global_batch, wish.budget(question.world_size));
  return search.run();
}

}  // namespace

std::string cheapest_change(const StrategyPins& pins, const PlanWish& wish) {
  for (const Change& change : changes(pins, wish.question)) {
    if (const std::optional<Plan> plan = plan_with(change.pins, change.question, wish))
      return fmt::format("it would fit with {} ({})", change.option,
                         describe_strategy(plan->chosen.strategy));
  }
  return "no single change would make it fit; use a larger device or a smaller model";
}

std::string why_nothing_fits(const Search& search, const StrategyPins& pins, const PlanWish& wish) {
  if (!search.nearest()) return "no strategy is possible with these settings; " + cheapest_change(pins, wish);
  const Candidate& nearest = *search.nearest();
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  const bool on_device = nearest.device_missing > 0;
  const MemoryUse& short_of = on_device ? nearest.price.device : nearest.price.host;
  return fmt::format(
      "nothing fits: a rank may use {} of the device{}{}, and the least that a step needs is {} and {} on "
      "the host ({}, micro-batch {}): {} too much {}, most of it for {}{}; {}",
      format_bytes(budget.device), wish.limited_by.empty() ? "" : fmt::format(" ({})", wish.limited_by),
      budget.host ? fmt::format(" and {} of the host's memory", format_bytes(*budget.host)) : "",
      format_bytes(nearest.price.device.total), format_bytes(nearest.price.host.total),
      describe_strategy(nearest.strategy), nearest.strategy.micro_batch,
      format_bytes(on_device ? nearest.device_missing : nearest.host_missing),
      on_device ? "on the device" : "on the host", category_name(largest_category(short_of)),
      on_device ? fmt::format(" in the {} phase", phase_name(nearest.price.device_phase)) : "",
      cheapest_change(pins, wish));
}

std::vector<OptIn> opt_ins(const StrategyPins& pins, const PlanWish& wish) {
  std::vector<OptIn> list;
  for (const auto& [option, next] : inexact_pins(pins)) {
    if (std::optional<Plan> plan = plan_with(next, wish.question, wish))
      list.push_back({option, std::move(*plan)});
  }
  return list;
}

}  // namespace autoglm
