#include "launcher/report/training_report.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/units.h"
#include "launcher/planner/plan_text.h"
#include "launcher/report/build_info.h"
#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

constexpr const char* kMetricsName = "metrics.jsonl";
constexpr std::int64_t kSettlingSteps = 2;
// Predictions further off than this are worth a warning.
constexpr double kTolerance = 0.01;
constexpr double kHighShare = 0.9;

// Largest resident memory of this process so far, from the kernel.
std::int64_t resident_peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

// Of this rank: which category is furthest above (or below) what was foreseen for it.
std::string worst_category(const MemoryUse& measured, const MemoryUse& predicted) {
  std::size_t worst = 0;
  const auto off = [&](std::size_t i) {
    return std::abs(measured.by_category[i] - predicted.by_category[i]);
  };
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    if (off(i) > off(worst)) worst = i;
  }
  return fmt::format("{}: {} instead of {}", category_name(static_cast<MemoryCategory>(worst)),
                     format_bytes(measured.by_category[worst]), format_bytes(predicted.by_category[worst]));
}

}  // namespace

std::int64_t take_resident_peak(Communicator& communicator) {
  const std::int64_t peak = most(communicator, resident_peak_bytes());
  // 5 resets the kernel's high-water mark (proc(5)); where that is not allowed, phases keep earlier peaks.
  std::ofstream("/proc/self/clear_refs") << "5";
  return peak;
}

RankExtremes largest_of_ranks(Communicator& communicator, const StepReport& step) {
  RankExtremes largest{job_memory().statistics().device.peak.total, resident_peak_bytes(),
                       step.exposed_seconds};
  for (const RankExtremes& one : gather(communicator, largest)) {
    largest.device_peak_bytes = std::max(largest.device_peak_bytes, one.device_peak_bytes);
    largest.host_peak_bytes = std::max(largest.host_peak_bytes, one.host_peak_bytes);
    largest.exposed_seconds = std::max(largest.exposed_seconds, one.exposed_seconds);
  }
  return largest;
}

nlohmann::ordered_json describe_ranks(Communicator& communicator, int local_rank, const JobDevice& device) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const nlohmann::ordered_json mine = {{"host", host}, {"local_rank", local_rank}, {"device", device.name()}};
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const std::string& one : gather_text(communicator, mine.dump()))
    ranks.push_back(nlohmann::ordered_json::parse(one));
  return ranks;
}

TrainingReport::TrainingReport(const TrainOptions& options, nlohmann::ordered_json plan,
                               nlohmann::ordered_json ranks, const std::string& mpi_version,
                               const OutputDirectory& output, std::int64_t num_steps,
                               const MemoryExpectation& expected)
    : output_(output),
      metrics_(output.path() / kMetricsName),
      progress_(stderr_console(), num_steps, options.watching.log_every),
      expected_(expected) {
  record_.options = to_json(options);
  record_.plan = std::move(plan);
  record_.versions = {TORCH_VERSION, mpi_version, kWithCuda};
  record_.ranks = std::move(ranks);
  record_.started = std::chrono::system_clock::now();
  summary_.num_steps = num_steps;
  summary_.output = output.path();
  summary_.predicted_device_peak_bytes = expected.predicted.device.peak.total;
  output_.write_run_record(to_json(record_), false);
}

void TrainingReport::step(const StepReport& step, const RankExtremes& largest) {
  StepMetrics metrics;
  metrics.step = step.step;
  metrics.epoch = step.epoch;
  metrics.loss = step.loss;
  metrics.learning_rate = step.learning_rate;
  metrics.gradient_norm = step.gradient_norm;
  metrics.tokens = step.tokens;
  metrics.supervised_tokens = step.supervised_tokens;
  metrics.step_seconds = step.seconds;
  metrics.tokens_per_second = static_cast<double>(step.tokens) / std::max(step.seconds, 1e-9);
  metrics.device_peak_bytes = largest.device_peak_bytes;
  metrics.host_peak_bytes = largest.host_peak_bytes;
  metrics.exposed_seconds = largest.exposed_seconds;
  metrics.predicted_device_peak_bytes = summary_.predicted_device_peak_bytes;
  metrics_.write(metrics);
  progress_.step(metrics);
  summary_.tokens += step.tokens;
  summary_.device_peak_bytes = std::max(summary_.device_peak_bytes, largest.device_peak_bytes);
  compare_memory(step.step, largest.device_peak_bytes);
  if (!step.loss) return;
  if (!summary_.first_loss) summary_.first_loss = step.loss;
  summary_.last_loss = step.loss;
}

// The first step allocates what the first step of all allocates; the second one shows what stays.
void TrainingReport::compare_memory(std::int64_t step, std::int64_t device_peak) {
  ++steps_of_plan_;
  const std::int64_t predicted = expected_.predicted.device.peak.total;
  if (steps_of_plan_ == kSettlingSteps) {
    settled_peak_ = device_peak;
    const double off = static_cast<double>(device_peak) / static_cast<double>(predicted) - 1;
    if (std::abs(off) > kTolerance) {
      spdlog::warn("the device's peak is {}, {:+.1f} % of the {} foreseen; most of it is {}",
                   format_bytes(device_peak), 100 * off, format_bytes(predicted),
                   worst_category(job_memory().statistics().device.peak, expected_.predicted.device.peak));
    }
  }
  if (warned_) return;
  if (device_peak > predicted) {
    warned_ = true;
    spdlog::warn("step {}: {} are in use on the device, more than the {} foreseen ({})", step,
                 format_bytes(device_peak), format_bytes(predicted),
                 worst_category(job_memory().statistics().device.peak, expected_.predicted.device.peak));
  } else if (settled_peak_ > 0 && device_peak > settled_peak_) {
    warned_ = true;
    spdlog::warn("step {}: memory on the device grows from step to step, {} now and {} after step {}", step,
                 format_bytes(device_peak), format_bytes(settled_peak_), kSettlingSteps);
  } else if (const auto budget = static_cast<double>(expected_.device_budget);
             static_cast<double>(device_peak) > kHighShare * budget &&
             static_cast<double>(predicted) <= kHighShare * budget) {
    warned_ = true;
    spdlog::warn("step {}: {} of {} of the device are in use, where the plan left more room", step,
                 format_bytes(device_peak), format_bytes(expected_.device_budget));
  }
}

void TrainingReport::out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted) {
  const bool same = predicted.device.peak.total == expected_.predicted.device.peak.total;
  spdlog::warn("{}; {}{}", event.what, same ? "trying again with " : "going on with ",
               event.changes_bits
                   ? fmt::format("{} and micro-batches of {}: the global batch stays, last bits change",
                                 event.strategy, event.micro_batch)
                   : event.strategy);
  expected_.predicted = predicted;
  summary_.predicted_device_peak_bytes = predicted.device.peak.total;
  steps_of_plan_ = settled_peak_ = 0;
  events_.push_back({{"event", "out_of_memory"},
                     {"step", event.step},
                     {"what", event.what},
                     {"strategy", event.strategy},
                     {"micro_batch", event.micro_batch}});
  metrics_.write_event(events_.back());
}

void TrainingReport::evaluation(std::int64_t step, double loss) {
  const EvaluationMetrics metrics{step, loss};
  metrics_.write(metrics);
  progress_.evaluation(metrics);
  if (!summary_.first_validation_loss) summary_.first_validation_loss = loss;
  summary_.last_validation_loss = loss;
}

void TrainingReport::sample(const std::string& prompt, const std::string& answer) {
  progress_.sample(prompt, answer);
}

nlohmann::ordered_json TrainingReport::result() const {
  const auto number = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  const MemoryStatistics memory = job_memory().statistics();
  return {
      {"steps", summary_.num_steps},
      {"tokens", summary_.tokens},
      {"seconds", summary_.seconds},
      {"first_loss", number(summary_.first_loss)},
      {"last_loss", number(summary_.last_loss)},
      {"first_validation_loss", number(summary_.first_validation_loss)},
      {"last_validation_loss", number(summary_.last_validation_loss)},
      {"device_peak_bytes", summary_.device_peak_bytes},
      {"predicted_resident_bytes", expected_.resident},
      {"memory_events", events_},
      {"device_backed_bytes", job_memory().device().backed()},
      {"device_bytes_at_peak", bytes_by_category(memory.device.peak)},
      {"host_pool_peak_bytes", memory.host.peak.total},
      {"host_bytes_at_peak", bytes_by_category(memory.host.peak)},
      {"resident_peak_bytes",
       {{"loading", resident_peaks_[0]}, {"training", resident_peaks_[1]}, {"saving", resident_peaks_[2]}}}};
}

void TrainingReport::finish() {
  summary_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  record_.ended = std::chrono::system_clock::now();
  record_.result = result();
  output_.write_run_record(to_json(record_), true);
  progress_.finish(summary_);
}

}  // namespace autoglm
