#include "launcher/job/job_plan.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/units.h"
#include "launcher/planner/candidate_json.h"
#include "launcher/planner/changes.h"
#include "sharding/agree.h"
#include "sharding/memory/host_memory.h"
#include "sharding/memory/job_memory.h"
#include "trainer/ops/products.h"

namespace autoglm {
namespace {

// What the system, file caches and the growth of other processes may take of a host's memory.
constexpr double kHostShare = 0.9;

// This rank's part of the memory of its host, beside what it holds already: of all that the ranks may use,
// and of what nobody uses now.
std::int64_t share_of_host(const LocalRank& local, std::int64_t fixed_resident) {
  const auto part = [&](std::int64_t bytes) {
    return static_cast<std::int64_t>(kHostShare * static_cast<double>(bytes)) / local.size;
  };
  return std::max<std::int64_t>(
      0, std::min(part(host_memory_limit()) - fixed_resident, part(available_host_memory())));
}

MemoryQuestion question_of(const TrainOptions& options, const Model& model, std::int64_t max_positions,
                           int world_size) {
  MemoryQuestion question;
  question.model = model.config;
  for (const Parameter* parameter : model.parameters()) {
    if (!parameter->trainable()) question.frozen.push_back(parameter->name());
  }
  question.precision = options.training.precision;
  question.row_length = options.data.sequence_length;
  question.max_positions = max_positions;
  question.world_size = world_size;
  return question;
}

// The smallest budget of all ranks.
MemoryBudget agree_on_budget(Communicator& communicator, MemoryBudget budget) {
  for (const MemoryBudget& one : gather(communicator, budget)) {
    budget.device = std::min(budget.device, one.device);
    if (budget.host) budget.host = std::min(*budget.host, one.host.value_or(0));
  }
  return budget;
}

PlanWish wish_of(const TrainOptions& options, const JobPlan& job) {
  const MemoryBudget budget = job.budget;
  return {job.question, job.probe.rates, options.training.loop.global_batch, [budget](int) { return budget; },
          job.limited_by};
}

// What a person could raise.
std::string what_limits(const StrategyOptions& options, const JobDevice& device, const LocalRank& local,
                        std::int64_t fixed_resident) {
  if (options.memory_limit) return "--memory-limit";
  const std::optional<AddressLimit> addresses = device.is_cuda() ? std::nullopt : address_limit();
  const bool binds =
      addresses && job_memory().statistics().device.limit < cpu_budget(options, local, fixed_resident).device;
  return binds ? addresses->name : "";
}

// The route of all ranks, from here on. Collective.
Products settle_products(std::optional<Products> pinned, Communicator& communicator) {
  // Products that are compiled while the job runs need addresses that no pool was told of.
  const Products mine = address_limit() ? Products::mkl : ops::best_products();
  const auto best = static_cast<Products>(least(communicator, static_cast<int>(mine)));
  run_agreed(communicator, [&] {
    const std::string problem = pinned ? ops::products_problem(*pinned) : "";
    if (!problem.empty())
      fail(ExitCode::unavailable, "--products {}: {}", word_of(kProducts, *pinned), problem);
  });
  ops::set_products(pinned.value_or(best));
  return ops::products();
}

}  // namespace

MemoryBudget cpu_budget(const StrategyOptions& options, const LocalRank& local, std::int64_t fixed_resident) {
  const std::int64_t share = share_of_host(local, fixed_resident);
  MemoryBudget budget;
  budget.shared = !options.memory_limit;
  budget.device = options.memory_limit ? *options.memory_limit : share;
  // Under a limit the device's pool is apart, as on a GPU, and what is left is the host's.
  if (options.memory_limit) budget.host = std::max<std::int64_t>(0, share - *options.memory_limit);
  return budget;
}

MemoryBudget job_budget(const StrategyOptions& options, const JobDevice& device, const LocalRank& local,
                        std::int64_t fixed_resident) {
  // A limit on addresses may leave the pools less than there is memory.
  const MemoryStatistics pools = job_memory().statistics();
  MemoryBudget budget;
  if (device.is_cuda()) {
    budget.host = share_of_host(local, fixed_resident);
  } else {
    budget = cpu_budget(options, local, fixed_resident);
  }
  budget.device = device.is_cuda() ? pools.device.limit : std::min(budget.device, pools.device.limit);
  if (budget.host) budget.host = std::min(*budget.host, pools.host.limit);
  return budget;
}

JobPlan plan_job(const TrainOptions& options, const Model& model, std::int64_t max_positions,
                 JobDevice& device, const LocalRank& local) {
  Communicator& communicator = device.communicator();
  const auto start = std::chrono::steady_clock::now();
  JobPlan job;
  job.question = question_of(options, model, max_positions, communicator.size());
  if (device.is_cuda()) {
    job.question.target = ops::Target::cuda;
    job.question.multiprocessors = device.multiprocessors();
  } else {
    job.products = settle_products(options.strategy.products, communicator);
  }
  job.probe.rates = device.guessed_rates(communicator.size(), job.question.precision);
  if (!options.strategy.pins.complete()) {
    job.probe = probe_rates(job.question, device.device(), job.probe.rates, communicator);
    job.probed = true;
    job_memory().trim();
    device.measure_again(communicator);
  }
  job.fixed_resident = resident_bytes();
  // What is available is read when every rank has given back what its probe took.
  gather(communicator, job.fixed_resident);
  job.limited_by = what_limits(options.strategy, device, local, job.fixed_resident);
  job.budget = agree_on_budget(communicator, job_budget(options.strategy, device, local, job.fixed_resident));
  run_agreed(communicator, [&] {
    MemoryModel memory(job.question);
    Search search(memory, job.probe.rates, options.strategy.pins, options.training.loop.global_batch,
                  job.budget);
    std::optional<Plan> plan = search.run();
    if (!plan)
      fail(ExitCode::does_not_fit, "{}",
           why_nothing_fits(search, options.strategy.pins, wish_of(options, job)));
    job.plan = std::move(*plan);
  });
  check_same(communicator, "the plan", to_json(job.strategy()).dump());
  job.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return job;
}

Plan plan_again(const TrainOptions& options, const JobPlan& job, const Strategy& failed, std::int64_t limit) {
  const StrategyPins& pinned = options.strategy.pins;
  MemoryBudget budget = job.budget;
  budget.device = limit;
  budget.shared = false;
  if (job.budget.shared) budget.host = std::max<std::int64_t>(0, job.budget.device - limit);
  MemoryModel memory(job.question);
  for (std::int64_t rows = failed.micro_batch; rows >= 1; rows /= 2) {
    StrategyPins pins = pinned;
    pins.micro_batch = rows;
    pins.master = failed.master;
    pins.head_chunks = failed.head_chunks;
    Search search(memory, job.probe.rates, pins, options.training.loop.global_batch, budget);
    search.restrict_to([&](const Strategy& next) {
      const bool keeps_host =
          failed.weights != WeightSourceKind::host || next.weights == WeightSourceKind::host;
      return next.stage >= failed.stage && next.offload_optimizer >= failed.offload_optimizer && keeps_host;
    });
    if (std::optional<Plan> plan = search.run()) return std::move(*plan);
    if (pinned.micro_batch) break;
  }
  PlanWish wish = wish_of(options, job);
  wish.budget = [&](int) { return budget; };
  fail(ExitCode::does_not_fit, "nothing that needs less than {} on the device is left to try after {}; {}",
       format_bytes(limit), describe_strategy(failed), cheapest_change(pinned, wish));
}

nlohmann::ordered_json to_json(const JobPlan& job) {
  nlohmann::ordered_json object = to_json(job.strategy());
  if (job.products) object["products"] = word_of(kProducts, *job.products);
  object["predicted_device_peak_bytes"] = job.plan.predicted.device.peak.total;
  object["predicted_device_bytes_at_peak"] = bytes_by_category(job.plan.predicted.device.peak);
  object["predicted_device_extent_bytes"] = job.plan.predicted.device.extent;
  object["predicted_host_peak_bytes"] = job.plan.predicted.host.peak.total;
  object["predicted_host_bytes_at_peak"] = bytes_by_category(job.plan.predicted.host.peak);
  object["predicted_resident_bytes"] = job.predicted_resident();
  object["device_budget_bytes"] = job.budget.device;
  object["host_budget_bytes"] =
      job.budget.host ? nlohmann::ordered_json(*job.budget.host) : nlohmann::ordered_json(nullptr);
  object["estimated_step_seconds"] = job.plan.chosen.time.total();
  object["planning_seconds"] = job.seconds;
  object["candidates_priced"] = job.plan.num_priced;
  const Rates& rates = job.probe.rates;
  object["rates"] = {{"measured", job.probed && job.probe.complete},
                     {"matrix_flops", rates.matrix_flops},
                     {"memory_bandwidth", rates.memory_bandwidth},
                     {"link_bandwidth", rates.link_bandwidth},
                     {"message_bandwidth", rates.message_bandwidth},
                     {"host_link_bandwidth", rates.host_link_bandwidth},
                     {"host_memory_bandwidth", rates.host_memory_bandwidth}};
  const std::int64_t rows =
      job.plan.chosen.num_micro_batches * job.strategy().micro_batch * job.question.world_size;
  object["alternatives"] = nlohmann::ordered_json::array();
  for (const Candidate& one : job.plan.alternatives)
    object["alternatives"].push_back(to_json(one, job.question, rows));
  object["overruns"] = job.plan.overruns;
  return object;
}

std::string describe(const JobPlan& job) {
  const MemoryStatistics& predicted = job.plan.predicted;
  const std::int64_t on_host = predicted.host.peak.total;
  return fmt::format("{}{}; {} of {} per rank foreseen{}", describe_strategy(job.strategy()),
                     job.products ? fmt::format(", products by {}", word_of(kProducts, *job.products)) : "",
                     format_bytes(predicted.device.peak.total), format_bytes(job.budget.device),
                     on_host == 0 ? "" : fmt::format(", and {} on the host", format_bytes(on_host)));
}

}  // namespace autoglm
