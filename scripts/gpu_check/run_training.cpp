#include "scripts/gpu_check/run_training.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/math.h"
#include "base/units.h"
#include "launcher/options/strategy_options.h"
#include "launcher/planner/probe.h"
#include "launcher/planner/search.h"
#include "sharding/agree.h"
#include "sharding/memory/host_memory.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// Of a host's memory: the rest is for the system, and for this process beyond its pools.
constexpr double kHostShare = 0.93;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Foreseen {
  Strategy strategy;
  MemoryStatistics memory;
  double step_seconds = 0;
};

MemoryQuestion question_of(const RunRequest& request, const JobDevice& device, int world_size) {
  MemoryQuestion question;
  question.model = parse_model_config(request.config, "config");
  question.precision = request.precision;
  question.row_length = request.row_length;
  question.max_positions = request.row_length;
  question.world_size = world_size;
  question.target = device.is_cuda() ? ops::Target::cuda : ops::Target::cpu;
  question.multiprocessors = device.multiprocessors();
  return question;
}

MemoryBudget budget_of(const RunRequest& request, int world_size) {
  MemoryBudget budget;
  budget.device = job_memory().statistics().device.limit;
  const auto machine = static_cast<std::int64_t>(kHostShare * static_cast<double>(host_memory_limit()));
  budget.host = std::min(machine, request.host_limit.value_or(machine)) / world_size;
  return budget;
}

// None when nothing fits.
std::optional<Foreseen> foresee(const RunRequest& request, const MemoryQuestion& question,
                                const Rates& rates) {
  MemoryModel memory(question);
  const MemoryBudget budget = budget_of(request, question.world_size);
  Search search(memory, rates, request.pins, request.rows, budget);
  if (request.plans) {
    const std::optional<Plan> plan = search.run();
    if (!plan) return std::nullopt;
    return Foreseen{plan->chosen.strategy, plan->predicted, plan->chosen.time.total()};
  }
  const Strategy strategy = pinned_strategy(request.pins, request.precision);
  const std::string conflict = strategy_conflict(strategy, request.precision);
  if (!conflict.empty()) fail(ExitCode::usage, "{}", conflict);
  Foreseen foreseen{strategy, memory.rehearse(strategy), search.judge(strategy).time.total()};
  const bool fits =
      foreseen.memory.device.extent <= budget.device && foreseen.memory.host.extent <= *budget.host;
  return fits ? std::optional<Foreseen>(std::move(foreseen)) : std::nullopt;
}

// Fewer layers until something fits.
Foreseen foresee_with_layers(RunRequest& request, MemoryQuestion& question, const Rates& rates) {
  while (true) {
    if (std::optional<Foreseen> found = foresee(request, question, rates)) return std::move(*found);
    if (!request.fewest_layers || question.model.num_layers - 2 < *request.fewest_layers) {
      fail(ExitCode::does_not_fit, "{} layers do not fit {} of the device and {} of the host",
           question.model.num_layers, format_bytes(budget_of(request, question.world_size).device),
           format_bytes(*budget_of(request, question.world_size).host));
    }
    question.model.num_layers -= 2;
  }
}

json to_json(const ArenaStatistics& pool) {
  json object = {{"peak", pool.peak.total}, {"extent", pool.extent}, {"limit", pool.limit}};
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    if (pool.peak.by_category[i] > 0) {
      object["at_peak"][std::string(category_name(static_cast<MemoryCategory>(i)))] =
          pool.peak.by_category[i];
    }
  }
  return object;
}

void check_memory(Engine& engine, std::int64_t failed_ranks) {
  if (failed_ranks == 0) return;
  fail(ExitCode::does_not_fit, "{} ranks ran out of memory{}", failed_ranks,
       engine.out_of_memory() ? fmt::format(": {}", engine.out_of_memory()->what()) : "");
}

// The workspace of attention's backward grows with the number of documents, for which space is declared up to one of 64
// tokens on average, and falls where few leave multiprocessors idle. A plan foresees the larger of the two ends.
std::int64_t telling_length(std::int64_t row_length, std::int64_t step) {
  constexpr std::int64_t kMeanDocument = 64;
  return step % 2 == 1 ? row_length : divide_up(row_length, 1 + row_length / kMeanDocument);
}

// One step; its parts in seconds. Ranks and device are brought together after each part.
json run_step(Engine& engine, Communicator& communicator, MicroBatch& batch, std::int64_t num_batches,
              std::int64_t supervised, std::int64_t step, std::int64_t document_length) {
  const Clock::time_point start = Clock::now();
  double loss_sum = 0;
  for (std::int64_t i = 0; i < num_batches; ++i) {
    fill_micro_batch(batch, i, communicator.rank(), communicator.size(),
                     engine.model().config.vocabulary_size, document_length);
    loss_sum += engine.train_micro_batch(batch, 1.0f / static_cast<float>(supervised), i + 1 == num_batches);
  }
  check_memory(engine, engine.agree_on_memory());
  const double computed = since(start);
  const StepSums sums = engine.finish_accumulation(loss_sum);
  const double reduced = since(start);
  const double loss = sums.loss_sum / static_cast<double>(supervised);
  if (!std::isfinite(loss) || !std::isfinite(sums.gradient_norm)) {
    fail(ExitCode::not_finite, "step {}: the loss is {}, the gradient norm {}", step, loss,
         sums.gradient_norm);
  }
  engine.optimizer_step({}, 1e-4, step, clip_factor(sums.gradient_norm, 1.0));
  check_memory(engine, engine.agree_on_memory());
  const double seconds = most(communicator, since(start));
  return {{"loss", loss},
          {"gradient_norm", sums.gradient_norm},
          {"seconds", seconds},
          {"forward_and_backward", computed},
          {"last_gradients_and_norm", reduced - computed},
          {"optimizer", since(start) - reduced},
          {"exposed", sums.exposed_seconds}};
}

// Peaks of the rank that has the largest: a plan foresees those.
void take_largest(ArenaStatistics& pool, Communicator& communicator) {
  pool.peak.total = most(communicator, pool.peak.total);
  pool.extent = most(communicator, pool.extent);
}

// In the first `rows` rows.
std::int64_t count_supervised(std::int64_t rows, std::int64_t length, std::int64_t vocabulary) {
  std::int64_t supervised = 0;
  for (std::int64_t row = 0; row < rows; ++row) supervised += random_row(row, length, vocabulary).supervised;
  return supervised;
}

// The engine before it has weights; where the host refuses to give what was foreseen, with fewer layers.
std::unique_ptr<Engine> make_random_engine(RunRequest& request, MemoryQuestion& question, const Rates& rates,
                                           JobDevice& device, std::optional<Model>& model,
                                           Foreseen& foreseen) {
  while (true) {
    foreseen = foresee_with_layers(request, question, rates);
    model.emplace(make_model(question.model));
    EngineOptions options;
    options.saves_states = true;  // as plans count with it
    options.device = device.device();
    options.precision = request.precision;
    options.row_length = request.row_length;
    options.strategy = foreseen.strategy;
    job_memory().reset_peak();
    try {
      return std::make_unique<Engine>(*model, options, device.communicator());
    } catch (const OutOfMemory& error) {
      if (!request.fewest_layers || device.communicator().size() > 1) throw;
      request.host_limit = budget_of(request, 1).host.value() * 9 / 10;
    }
  }
}

}  // namespace

json run_training(const RunRequest& original, JobDevice& device) {
  RunRequest request = original;
  Communicator& communicator = device.communicator();
  MemoryQuestion question = question_of(request, device, communicator.size());
  const std::int64_t wanted_layers = question.model.num_layers;
  const Clock::time_point start = Clock::now();
  // The probe also loads libraries and kernels, so that what they take of the device is known beforehand.
  const Rates guessed = device.guessed_rates(communicator.size(), request.precision);
  ProbeResult probe = probe_rates(question, device.device(), guessed, communicator);
  if (request.bytes_only) probe.rates = guessed;
  const std::int64_t fixed = device.fixed_bytes();
  const double probed = since(start);
  Foreseen foreseen;
  std::optional<Model> model;
  const auto engine = make_random_engine(request, question, probe.rates, device, model, foreseen);
  const double constructed = since(start);
  if (!request.bytes_only) load_random_weights(*engine);
  const double loaded = since(start);

  const std::int64_t per_batch = foreseen.strategy.micro_batch * communicator.size();
  const std::int64_t num_batches = divide_up(request.rows, per_batch);
  const std::int64_t supervised =
      count_supervised(num_batches * per_batch, request.row_length, question.model.vocabulary_size);
  MicroBatch batch(foreseen.strategy.micro_batch, request.row_length, device.device());
  json steps = json::array();
  for (std::int64_t step = 1; step <= request.steps; ++step) {
    if (step > 1 && most(communicator, since(start)) > request.seconds) break;
    steps.push_back(run_step(*engine, communicator, batch, num_batches, supervised, step,
                             request.bytes_only ? telling_length(request.row_length, step) : 0));
  }
  engine->evaluate_micro_batch(batch);  // as a plan foresees it, and in some models the most of all
  MemoryStatistics measured = job_memory().statistics();
  take_largest(measured.device, communicator);
  take_largest(measured.host, communicator);
  const ModelWork work = work_of(question);
  const std::int64_t tokens = num_batches * per_batch * request.row_length;
  double best = steps.front().at("seconds");
  for (std::size_t i = 1; i < steps.size(); ++i) best = std::min(best, steps[i].at("seconds").get<double>());
  json answer = {
      {"device", device.name()},
      {"ranks", communicator.size()},
      {"layers", question.model.num_layers},
      {"wanted_layers", wanted_layers},
      {"parameters", work.num_parameters},
      {"strategy", describe_strategy(foreseen.strategy)},
      {"micro_batch", foreseen.strategy.micro_batch},
      {"micro_batches", num_batches},
      {"gradient_dtype", foreseen.strategy.bf16_gradients ? "bf16" : "fp32"},
      {"tokens_per_step", tokens},
      {"steps", steps},
      {"tokens_per_second", static_cast<double>(tokens) / best},
      {"model_flops_per_second", work.flops_per_token() * static_cast<double>(tokens) / best},
      {"peak_flops", probe.rates.peak_flops},
      {"foreseen_step_seconds", foreseen.step_seconds},
      {"foreseen", {{"device", to_json(foreseen.memory.device)}, {"host", to_json(foreseen.memory.host)}}},
      {"measured", {{"device", to_json(measured.device)}, {"host", to_json(measured.host)}}},
      {"foreseen_device_total", fixed + device.backed_bytes_for(foreseen.memory.device.extent)},
      {"measured_device_total", device.fixed_bytes() + job_memory().device().backed()},
      {"fixed_device_bytes", fixed},
      {"seconds",
       {{"probe", probed}, {"construction", constructed - probed}, {"weights", loaded - constructed}}}};
  if (request.hashes) answer["digest"] = weights_digest(*engine);
  return answer;
}

}  // namespace autoglm
