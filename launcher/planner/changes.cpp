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
constexpr int kMostTimesTheRanks = 8;

// Tries of a larger limit, each this much above the last.
constexpr int kMostLimits = 4;
constexpr double kLimitGrowth = 1.02;

// What an opt-in must save of host memory to be named beside the plain way.
constexpr double kMuchLess = 0.8;

// A proposal of less would read as one of nothing.
constexpr double kLeastGain = 0.01;
// Links and optimizer take a good part of a step from here on, and a batch is a good deal faster.
constexpr double kMuchOfAStep = 0.1;
constexpr double kGoodGain = 0.1;
constexpr std::int64_t kMostTimesTheBatch = 8;

struct Change {
  std::string option;  // what to write
  StrategyPins pins;
  MemoryQuestion question;
};

// "--sequence-length 512", and with what else.
std::string with_flags(const std::string& change, const std::string& flags) {
  return flags.empty() ? change : change + " and " + flags;
}

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
    const std::optional<Plan> plan =
        plan_with(memory, change.pins, wish, wish.budget(change.question.world_size));
    if (plan) return advice(change.option, *plan);
  }
  return std::nullopt;
}

// Little more than what the nearest strategy needs; else the whole device.
std::optional<std::string> larger_limit(MemoryModel& memory, const std::string& flags,
                                        const StrategyPins& pins, const PlanWish& wish,
                                        const Candidate& nearest) {
  if (!wish.unlimited || nearest.device_missing == 0) return std::nullopt;
  MemoryBudget budget = *wish.unlimited;
  auto bytes = static_cast<double>(wish.budget(wish.question.world_size).device + nearest.device_missing);
  for (int tries = 0; tries < kMostLimits; ++tries, bytes *= kLimitGrowth) {
    const auto limit = static_cast<std::int64_t>(std::ceil(bytes / (1 << 20)));
    budget.device = tries + 1 < kMostLimits ? limit << 20 : wish.unlimited->device;
    if (budget.device > wish.unlimited->device) continue;
    if (const std::optional<Plan> plan = plan_with(memory, pins, wish, budget))
      return advice(with_flags(tries + 1 < kMostLimits ? fmt::format("{} {}MiB", wish.limited_by, limit)
                                                       : fmt::format("no {}", wish.limited_by),
                               flags),
                    *plan);
  }
  return std::nullopt;
}

// What a plan needs that costs quality or hardware: as little of it as will do.
struct Need {
  std::string option;
  Plan plan;
  std::int64_t amount = 0;  // less is better
};

std::optional<Need> shorter_rows(const StrategyPins& pins, const PlanWish& wish) {
  for (std::int64_t length = wish.question.row_length / 2; length >= kShortestRows; length /= 2) {
    MemoryQuestion shorter = wish.question;
    shorter.max_positions -= shorter.row_length - length;
    shorter.row_length = length;
    MemoryModel memory(shorter);
    if (std::optional<Plan> plan = plan_with(memory, pins, wish, wish.budget(shorter.world_size)))
      return Need{fmt::format("--sequence-length {}", length), std::move(*plan), -length};
  }
  return std::nullopt;
}

std::optional<Need> more_host_memory(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish) {
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  if (budget.shared || !budget.host) return std::nullopt;
  std::optional<Plan> plan =
      Search(memory, wish.rates, pins, wish.global_batch, budget).run_leanest_on_host();
  if (!plan) return std::nullopt;
  const std::int64_t bytes = plan->predicted.host.extent;
  std::string text =
      wish.host_text ? wish.host_text(bytes) : fmt::format("{} of host memory per rank", format_bytes(bytes));
  return Need{std::move(text), std::move(*plan), bytes};
}

// Twice as many up to a node, then node by node.
int next_ranks(int ranks, int per_node) {
  if (per_node <= 1 || 2 * ranks <= per_node) return 2 * ranks;
  return (ranks / per_node + 1) * per_node;
}

std::optional<Need> more_ranks(const StrategyPins& pins, const PlanWish& wish, int most) {
  int ranks = next_ranks(wish.question.world_size, wish.ranks_per_node);
  for (; ranks <= most; ranks = next_ranks(ranks, wish.ranks_per_node)) {
    MemoryQuestion wider = wish.question;
    wider.world_size = ranks;
    MemoryModel memory(wider);
    if (std::optional<Plan> plan = plan_with(memory, pins, wish, wish.budget(ranks)))
      return Need{wish.ranks_text ? wish.ranks_text(ranks) : fmt::format("{} ranks", ranks), std::move(*plan),
                  ranks};
  }
  return std::nullopt;
}

std::string text_of(const Need& need, const std::string& flags) {
  return fmt::format("{} ({})", with_flags(need.option, flags), describe_strategy(need.plan.chosen.strategy));
}

// The least of each kind, without opt-ins where that will do, and with all of them where it takes these or much
// less with them.
std::vector<std::string> least_needs(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish) {
  std::vector<std::string> texts;
  const auto flags = inexact_pins(pins);
  const int most = std::max(kMostRanks, kMostTimesTheRanks * wish.question.world_size);
  const auto add = [&](const auto& need_with, bool beside_the_plain_way) {
    const std::optional<Need> plain = need_with(pins);
    if (plain) texts.push_back(text_of(*plain, ""));
    if (flags.empty() || (plain && !beside_the_plain_way)) return;
    const std::optional<Need> with = need_with(flags.back().second);
    if (!with) return;
    if (!plain || static_cast<double>(with->amount) < kMuchLess * static_cast<double>(plain->amount))
      texts.push_back(text_of(*with, flags.back().first));
  };
  add([&](const StrategyPins& these) { return shorter_rows(these, wish); }, false);
  add([&](const StrategyPins& these) { return more_host_memory(memory, these, wish); }, true);
  add([&](const StrategyPins& these) { return more_ranks(these, wish, most); }, true);
  return texts;
}

std::string missing(std::string_view where, std::int64_t bytes, const MemoryUse& use) {
  return fmt::format("{} too much on the {}, most of it for {}", format_bytes(bytes), where,
                     category_name(largest_category(use)));
}

// Whether gradients rounded to bf16 would take fewer bytes of a link.
bool may_send_less(const StrategyPins& pins, const PlanWish& wish) {
  const MemoryQuestion& question = wish.question;
  return question.world_size > 1 && question.target == ops::Target::cuda && !wish.rates.spans_hosts &&
         !pins.bf16_reduce && pins.reduce_scatter == ReduceScatter::ordered;
}

}  // namespace

std::string cheapest_change(const StrategyPins& pins, const PlanWish& wish, const Candidate* nearest) {
  if (const auto advice = first_that_fits(changes(pins, wish.question), wish)) return *advice;
  MemoryModel memory(wish.question);
  if (nearest != nullptr) {
    if (const auto advice = larger_limit(memory, "", pins, wish, *nearest)) return *advice;
    for (const auto& [flags, next] : inexact_pins(pins)) {
      if (!wish.unlimited) break;
      Search search(memory, wish.rates, next, wish.global_batch, wish.budget(wish.question.world_size));
      if (search.run() || !search.nearest()) continue;
      if (const auto advice = larger_limit(memory, flags, next, wish, *search.nearest())) return *advice;
    }
  }
  if (const auto needs = least_needs(memory, pins, wish); !needs.empty())
    return fmt::format("it would fit with {}", fmt::join(needs, ", or with "));
  return fmt::format(
      "nothing that the planner could change would make it fit; {}use a larger device or a smaller model",
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
  std::string text = fmt::format(
      "nothing fits: a rank may use {} of the device{}{}, and the strategy that comes nearest needs {} and "
      "{} on the host ({}, micro-batch {}): {}; {}",
      format_bytes(budget.device), wish.limited_by.empty() ? "" : fmt::format(" ({})", wish.limited_by),
      budget.host ? fmt::format(" and {} of the host's memory", format_bytes(*budget.host)) : "",
      format_bytes(on_device), format_bytes(nearest.price.host.total), describe_strategy(nearest.strategy),
      nearest.strategy.micro_batch, fmt::join(shortages, ", and "), cheapest_change(pins, wish, &nearest));
  if (wish.instead) {
    for (const std::string& other : wish.instead()) text += "; " + other;
  }
  return text;
}

std::vector<OptIn> opt_ins(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish,
                           const Plan& plan) {
  std::vector<OptIn> list;
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  std::vector<std::pair<std::string, StrategyPins>> changed = inexact_pins(pins);
  const bool sums_may_wait = wish.question.world_size > 1 && plan.chosen.num_micro_batches > 1;
  if (sums_may_wait && pins.reduce == ReduceMode::micro_batch && !pins.bf16_gradients) {
    changed.emplace_back("--reduce step", pins);
    changed.back().second.reduce = ReduceMode::step;
  }
  if (may_send_less(pins, wish) && plan.chosen.time.exposed >= kLeastGain * plan.chosen.time.total()) {
    changed.emplace_back("--reduce-dtype bf16", pins);
    changed.back().second.bf16_reduce = true;
  }
  for (const auto& [option, next] : changed) {
    std::optional<Plan> other = plan_with(memory, next, wish, budget);
    if (!other) continue;
    const double gain = plan.chosen.time.total() / other->chosen.time.total() - 1;
    if (gain >= kLeastGain) list.push_back({option, std::move(*other), wish.global_batch, gain});
  }
  return list;
}

std::vector<OptIn> larger_batches(MemoryModel& memory, const StrategyPins& pins, const PlanWish& wish,
                                  const Plan& plan) {
  std::vector<OptIn> list;
  const StepTime& now = plan.chosen.time;
  const bool idle = wish.global_batch < wish.question.world_size;
  if (!idle && now.exposed + now.optimizer < kMuchOfAStep * now.total()) return list;
  const MemoryBudget budget = wish.budget(wish.question.world_size);
  double before = 0;
  for (std::int64_t times = 2; times <= kMostTimesTheBatch; times *= 2) {
    PlanWish larger = wish;
    larger.global_batch *= times;
    std::optional<Plan> other = plan_with(memory, pins, larger, budget);
    if (!other) break;
    const double gain = static_cast<double>(times) * now.total() / other->chosen.time.total() - 1;
    if (1 + gain < (1 + kGoodGain) * (1 + before)) break;
    before = gain;
    list.push_back({fmt::format("--global-batch {}", larger.global_batch), std::move(*other),
                    larger.global_batch, gain});
  }
  return list;
}

}  // namespace autoglm
