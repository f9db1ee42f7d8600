#include "launcher/planner/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/math.h"
#include "base/units.h"

namespace autoglm {
namespace {

// Offloaded fractions are whole hundredths.
constexpr double kOffloadSteps = 100;
// The head's chunks change last bits, so more of them are tried only when nothing else fits.
constexpr std::int64_t kMostHeadChunks = 128;
// Of a chunk, beside whose products the gradient that each chunk reads and writes is little.
constexpr std::int64_t kManyTokens = 4096;
// Rehearsals of a plan cost a tenth of a second each.
constexpr int kMostRehearsals = 24;
constexpr std::int64_t kLeastHole = 4096;
// Estimates that differ by less count as equal: then the plan that leans least on the host is taken, and of
// those that keep the schedule the one that needs the least memory.
constexpr double kCloseEstimates = 1.03;
constexpr double kTie = 1.005;
// Gaps between tensors were never seen to take a larger share of the budget.
constexpr double kMostGaps = 0.03;

std::int64_t bytes_missing(const Candidate& candidate) {
  return candidate.device_missing + candidate.host_missing;
}

bool faster(const Candidate& a, const Candidate& b) {
  return std::tuple(!a.fits(), a.fits() ? 0 : bytes_missing(a), a.time.total()) <
         std::tuple(!b.fits(), b.fits() ? 0 : bytes_missing(b), b.time.total());
}

bool leaner_on_host(const Candidate& a, const Candidate& b) {
  return std::tuple(!a.fits(), bytes_missing(a), a.price.host.total, a.time.total()) <
         std::tuple(!b.fits(), bytes_missing(b), b.price.host.total, b.time.total());
}

std::tuple<int, WeightSourceKind, bool> layout_of(const Strategy& strategy) {
  return {strategy.stage, strategy.weights, strategy.offload_optimizer > 0};
}

// What decides how the tensors of a step lie beside each other.
Strategy shape_of(const Strategy& strategy) {
  return {.recompute = strategy.recompute, .micro_batch = strategy.micro_batch};
}

bool same_schedule(const Strategy& a, const Strategy& b) {
  return a.micro_batch == b.micro_batch && a.recompute == b.recompute &&
         a.recompute_layers == b.recompute_layers && a.offload_activations == b.offload_activations;
}

const Candidate& preferred(const std::vector<Candidate>& sorted) {
  const Candidate& fastest = sorted.front();
  const Candidate* simplest = &fastest;
  for (const Candidate& one : sorted) {
    if (!one.fits() || one.time.total() > kCloseEstimates * fastest.time.total()) break;
    if (one.price.host.total < simplest->price.host.total) simplest = &one;
  }
  const Candidate* best = simplest;
  for (const Candidate& one : sorted) {
    if (one.fits() && same_schedule(one.strategy, simplest->strategy) &&
        one.time.total() <= kTie * simplest->time.total() && one.price.host.total <= best->price.host.total &&
        one.price.device.total < best->price.device.total)
      best = &one;
  }
  return *best;
}

std::vector<Candidate> best_of_layouts(const std::vector<Candidate>& sorted) {
  std::vector<Candidate> best;
  for (const Candidate& one : sorted) {
    const bool seen = std::any_of(best.begin(), best.end(), [&](const Candidate& other) {
      return layout_of(other.strategy) == layout_of(one.strategy);
    });
    if (!seen) best.push_back(one);
  }
  return best;
}

}  // namespace

Search::Search(MemoryModel& memory, const Rates& rates, const StrategyPins& pins, std::int64_t global_batch,
               const MemoryBudget& budget)
    : memory_(memory), times_(memory, rates), global_batch_(global_batch), budget_(budget) {
  const MemoryQuestion& question = memory.question();
  space_.pins = pins;
  space_.precision = question.precision;
  space_.world_size = question.world_size;
  space_.num_layers = question.model.num_layers;
  space_.row_length = question.row_length;
  space_.rows_per_rank = divide_up(global_batch, question.world_size);
  space_.may_offload = !budget.shared;
}

Candidate Search::judge(const Strategy& strategy) {
  Candidate candidate;
  candidate.strategy = strategy;
  candidate.price = memory_.price(strategy);
  const std::int64_t rows = strategy.micro_batch * space_.world_size;
  candidate.num_micro_batches = divide_up(global_batch_, rows);
  candidate.time = times_.step(strategy, candidate.num_micro_batches);
  const std::int64_t device =
      candidate.price.device.total + (budget_.shared ? candidate.price.host.total : 0);
  candidate.device_missing = std::max<std::int64_t>(0, device + holes_of(strategy) - budget_.device);
  if (!budget_.shared && budget_.host)
    candidate.host_missing = std::max<std::int64_t>(0, candidate.price.host.total - *budget_.host);
  return candidate;
}

Candidate Search::judge_closely(const Strategy& strategy) {
  Candidate one = judge(strategy);
  const auto close = [](std::int64_t bytes, std::int64_t budget) {
    return static_cast<double>(bytes) > (1 - kMostGaps) * static_cast<double>(budget);
  };
  const bool on_host = !budget_.shared && budget_.host && close(one.price.host.total, *budget_.host);
  const std::int64_t priced = one.price.device.total + (budget_.shared ? one.price.host.total : 0);
  if (!one.fits() || (!close(priced, budget_.device) && !on_host)) return one;
  const MemoryStatistics predicted = memory_.rehearse(strategy, one.num_micro_batches);
  const std::int64_t device = predicted.device.extent + (budget_.shared ? predicted.host.extent : 0);
  one.device_missing = std::max<std::int64_t>(0, device - budget_.device);
  if (on_host) one.host_missing = std::max<std::int64_t>(0, predicted.host.extent - *budget_.host);
  return one;
}

// As little as fits, by interpolation: beyond its buffers, offloading moves bytes in proportion.
void Search::add_with_offload(const Strategy& base, std::vector<Candidate>& to) {
  Strategy strategy = base;
  strategy.offload_optimizer = 1;
  const Candidate all = judge(strategy);
  strategy.offload_optimizer = 1 / kOffloadSteps;
  const Candidate least = judge(strategy);
  const auto moved = static_cast<double>(least.price.device.total - all.price.device.total);
  if (all.device_missing > 0 || moved <= 0) {
    to.push_back(all);
    return;
  }
  const double share = static_cast<double>(least.device_missing) / moved;
  double steps = std::clamp(std::ceil((1 / kOffloadSteps + share * (1 - 1 / kOffloadSteps)) * kOffloadSteps),
                            1.0, kOffloadSteps);
  for (; steps <= kOffloadSteps; ++steps) {
    strategy.offload_optimizer = steps / kOffloadSteps;
    const Candidate candidate = judge(strategy);
    if (candidate.device_missing > 0 && steps < kOffloadSteps) continue;
    to.push_back(candidate);
    return;
  }
}

void Search::judge_with_offload(const Strategy& strategy, std::vector<Candidate>& to) {
  to.push_back(judge(strategy));
  const bool may_move = space_.may_offload && !space_.pins.offload_optimizer;
  if (to.back().device_missing > 0 && may_move) add_with_offload(strategy, to);
}

std::int64_t Search::holes_of(const Strategy& strategy) const {
  const auto seen = holes_.find(shape_of(strategy));
  return seen == holes_.end() ? 0 : seen->second;
}

std::vector<Candidate> Search::candidates(std::int64_t head_chunks) {
  std::vector<Candidate> all;
  for (const Strategy& strategy : enumerate_strategies(space_, head_chunks))
    judge_with_offload(strategy, all);
  if (admits_) std::erase_if(all, [&](const Candidate& one) { return !admits_(one.strategy); });
  return all;
}

// Placement leaves holes, much the same ones in all steps of one shape: once seen in a rehearsal, they are
// part of the price of all that are alike.
std::optional<Plan> Search::choose(std::int64_t head_chunks, Goal goal) {
  Plan plan;
  for (int tries = 0; tries < kMostRehearsals; ++tries) {
    std::vector<Candidate> all = candidates(head_chunks);
    std::stable_sort(all.begin(), all.end(), goal == Goal::fastest ? faster : leaner_on_host);
    if (all.empty()) return std::nullopt;
    if (!all.front().fits()) {
      if (!nearest_ || faster(all.front(), *nearest_)) nearest_ = all.front();
      return std::nullopt;
    }
    const Candidate chosen = goal == Goal::fastest ? preferred(all) : all.front();
    const MemoryStatistics predicted = memory_.rehearse(chosen.strategy, chosen.num_micro_batches);
    const std::int64_t device = predicted.device.extent + (budget_.shared ? predicted.host.extent : 0);
    const bool host_fits = budget_.shared || !budget_.host || predicted.host.extent <= *budget_.host;
    if (device <= budget_.device && host_fits) {
      plan.num_priced = static_cast<std::int64_t>(all.size());
      plan.chosen = chosen;
      plan.predicted = predicted;
      plan.alternatives = best_of_layouts(all);
      for (Candidate& one : plan.alternatives) {
        if (layout_of(one.strategy) == layout_of(chosen.strategy)) one = chosen;
      }
      return plan;
    }
    plan.overruns.push_back(fmt::format("{}: priced {}, rehearsed {}", describe_strategy(chosen.strategy),
                                        format_bytes(chosen.price.device.total), format_bytes(device)));
    std::int64_t& holes = holes_[shape_of(chosen.strategy)];
    const std::int64_t seen =
        device - chosen.price.device.total - (budget_.shared ? chosen.price.host.total : 0);
    holes = std::max(seen, holes + std::max<std::int64_t>(device - budget_.device, kLeastHole));
  }
  return std::nullopt;
}

bool Search::hopeless() {
  std::vector<Strategy> leanest = enumerate_strategies(space_, kMostHeadChunks);
  const auto rows = [](const Strategy& a, const Strategy& b) { return a.micro_batch < b.micro_batch; };
  const auto fewest = std::min_element(leanest.begin(), leanest.end(), rows);
  if (fewest == leanest.end()) return true;
  const std::int64_t micro_batch = fewest->micro_batch;
  std::erase_if(leanest, [&](const Strategy& one) {
    const bool some_layers = one.recompute_layers >= 0 && !space_.pins.recompute_layers;
    return one.micro_batch != micro_batch || some_layers;
  });
  std::vector<Candidate> all;
  for (const Strategy& strategy : leanest) judge_with_offload(strategy, all);
  const auto far = [](std::int64_t missing, std::int64_t budget) {
    return static_cast<double>(missing) > kMostGaps * static_cast<double>(budget);
  };
  return std::all_of(all.begin(), all.end(), [&](const Candidate& one) {
    return far(one.device_missing, budget_.device) || far(one.host_missing, budget_.host.value_or(0));
  });
}

void Search::take_fewer_chunks(Plan& plan) {
  if (memory_.question().target != ops::Target::cuda || space_.pins.head_chunks) return;
  const std::int64_t tokens = plan.chosen.strategy.micro_batch * space_.row_length;
  for (std::int64_t chunks = kDefaultHeadChunks / 2; chunks >= 1 && tokens < 2 * chunks * kManyTokens;
       chunks /= 2) {
    Strategy larger = plan.chosen.strategy;
    larger.head_chunks = chunks;
    const Candidate candidate = judge(larger);
    if (!candidate.fits()) return;
    const MemoryStatistics predicted = memory_.rehearse(larger, candidate.num_micro_batches);
    if (predicted.device.extent > budget_.device ||
        predicted.host.extent > budget_.host.value_or(predicted.host.extent))
      return;
    for (Candidate& one : plan.alternatives) {
      if (one.strategy == plan.chosen.strategy) one = candidate;
    }
    plan.chosen = candidate;
    plan.predicted = predicted;
  }
}

std::optional<Plan> Search::run() {
  for (std::int64_t chunks = kDefaultHeadChunks; chunks <= kMostHeadChunks; chunks *= 2) {
    std::optional<Plan> plan = choose(chunks, Goal::fastest);
    if (plan && chunks == kDefaultHeadChunks) take_fewer_chunks(*plan);
    if (plan) return plan;
    if (space_.pins.head_chunks) break;
    // Only the nearest is still to be found.
    if (chunks == kDefaultHeadChunks && hopeless()) chunks = kMostHeadChunks / 2;
  }
  return std::nullopt;
}

std::optional<Plan> Search::run_leanest_on_host() {
  budget_.host.reset();
  if (budget_.shared || hopeless()) return std::nullopt;
  return choose(kDefaultHeadChunks, Goal::least_host);
}

std::optional<Plan> Search::run_unless_hopeless() {
  return hopeless() ? std::nullopt : run();
}

}  // namespace autoglm
