#include "launcher/report/training_report.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/error.h"
#include "base/units.h"
#include "launcher/planner/candidate_json.h"
#include "launcher/report/build_info.h"
#include "launcher/report/progress.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

nlohmann::ordered_json to_json(const MemoryEvent& event) {
  return {{"event", "out_of_memory"},
          {"step", event.step},
          {"what", event.what},
          {"strategy", event.strategy},
          {"micro_batch", event.micro_batch}};
}

nlohmann::ordered_json number(const std::optional<double>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

std::unique_ptr<MetricsWriter> open_metrics(const std::filesystem::path& path,
                                            const nlohmann::ordered_json& earlier) {
  if (earlier.is_null()) return std::make_unique<MetricsWriter>(path);
  try {
    return std::make_unique<MetricsWriter>(path, earlier.at("metrics_bytes").get<std::uint64_t>());
  } catch (const Error& error) {
    // The training matters more than what is told of it.
    spdlog::warn("{}; what was measured before is lost", error.what());
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    return std::make_unique<MetricsWriter>(path);
  }
}

}  // namespace

TrainingReport::TrainingReport(const TrainOptions& options, nlohmann::ordered_json plan,
                               nlohmann::ordered_json ranks, const std::string& mpi_version,
                               OutputDirectory& output, std::int64_t num_steps,
                               const MemoryExpectation& expected, RunMarks marks,
                               const ReportedSoFar& earlier)
    : output_(output), memory_(expected) {
  auto metrics = open_metrics(output.path() / kMetricsName, earlier.values);
  metrics_ = metrics.get();
  sinks_.push_back(std::move(metrics));
  sinks_.push_back(std::make_unique<Progress>(stderr_console(), num_steps, options.watching.log_every));
  record_.options = autoglm::to_json(options);
  record_.plan = std::move(plan);
  record_.versions = {TORCH_VERSION, mpi_version, kWithCuda};
  record_.ranks = std::move(ranks);
  record_.started = std::chrono::system_clock::now();
  record_.run = std::move(marks.run);
  record_.inputs = std::move(marks.inputs);
  go_on(earlier);
  summary_.num_steps = num_steps;
  summary_.output = output.path();
  summary_.predicted_device_peak_bytes = expected.device_peak();
  output_.write_run_record(autoglm::to_json(record_), false);
}

void TrainingReport::step(const StepReport& step, const RankExtremes& largest) {
  {
    // First, so that run.json never knows of fewer steps than metrics.jsonl.
    const std::lock_guard lock(mutex_);
    steps_done_ = step.step;
    summary_.tokens += step.tokens;
    summary_.device_peak_bytes = std::max(summary_.device_peak_bytes, largest.device_peak_bytes);
    if (step.loss && !summary_.first_loss) summary_.first_loss = step.loss;
    if (step.loss) summary_.last_loss = step.loss;
  }
  const double rate = static_cast<double>(step.tokens) / std::max(step.seconds, 1e-9);
  for (const auto& sink : sinks_) sink->step({step, largest, summary_.predicted_device_peak_bytes, rate});
  memory_.step(step.step, largest.device_peak_bytes);
}

void TrainingReport::evaluation(std::int64_t step, double loss) {
  for (const auto& sink : sinks_) sink->evaluation({step, loss});
  const std::lock_guard lock(mutex_);
  if (!summary_.first_validation_loss) summary_.first_validation_loss = loss;
  summary_.last_validation_loss = loss;
}

void TrainingReport::out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted) {
  {
    const std::lock_guard lock(mutex_);
    memory_.out_of_memory(event, predicted);
    summary_.predicted_device_peak_bytes = memory_.expected().device_peak();
    events_.push_back(to_json(event));
  }
  for (const auto& sink : sinks_) sink->event(events_.back());
}

void TrainingReport::sample(const std::string& prompt, const std::string& answer) {
  for (const auto& sink : sinks_) sink->sample(prompt, answer);
}

void TrainingReport::go_on(const ReportedSoFar& earlier) {
  if (earlier.values.is_null()) return;
  const nlohmann::ordered_json& values = earlier.values;
  record_.resumed_at_step = earlier.step;
  steps_done_ = earlier.step;
  summary_.tokens = values.at("tokens").get<std::int64_t>();
  earlier_seconds_ = values.at("seconds").get<double>();
  const auto number = [&](const char* name) {
    return values.at(name).is_null() ? std::nullopt : std::optional(values.at(name).get<double>());
  };
  summary_.first_loss = number("first_loss");
  summary_.last_loss = number("last_loss");
  summary_.first_validation_loss = number("first_validation_loss");
  summary_.last_validation_loss = number("last_validation_loss");
  events_ = values.at("memory_events");
}

nlohmann::ordered_json TrainingReport::so_far() const {
  const std::lock_guard lock(mutex_);
  return {{"metrics_bytes", metrics_->size()},
          {"tokens", summary_.tokens},
          {"seconds", seconds()},
          {"first_loss", number(summary_.first_loss)},
          {"last_loss", number(summary_.last_loss)},
          {"first_validation_loss", number(summary_.first_validation_loss)},
          {"last_validation_loss", number(summary_.last_validation_loss)},
          {"memory_events", events_}};
}

void TrainingReport::saved(const SaveReport& save) {
  if (save.failure.empty()) {
    spdlog::info("checkpoint of step {}: {} in {}, training stood still for {:.2f} s", save.step,
                 format_bytes(static_cast<std::int64_t>(save.bytes)), format_duration(save.write_seconds),
                 save.stall_seconds);
    if (!save.left_behind.empty()) spdlog::warn("an older checkpoint is still there: {}", save.left_behind);
  } else {
    spdlog::warn("no checkpoint of step {}: {}{}", save.step, save.failure,
                 save.stops ? "" : "; training goes on, and it is tried again later");
  }
  nlohmann::ordered_json event = {{"event", save.failure.empty() ? "checkpoint" : "no_checkpoint"},
                                  {"step", save.step},
                                  {"bytes", save.bytes},
                                  {"stall_seconds", save.stall_seconds},
                                  {"write_seconds", save.write_seconds}};
  if (!save.failure.empty()) event["message"] = save.failure;
  for (const auto& sink : sinks_) sink->event(event);
}

double TrainingReport::seconds() const {
  return earlier_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

nlohmann::ordered_json TrainingReport::result() const {
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
      {"predicted_resident_bytes", memory_.expected().resident},
      {"memory_events", events_},
      {"device_backed_bytes", job_memory().device().backed()},
      {"device_bytes_at_peak", bytes_by_category(memory.device.peak)},
      {"host_pool_peak_bytes", memory.host.peak.total},
      {"host_bytes_at_peak", bytes_by_category(memory.host.peak)},
      {"resident_peak_bytes",
       {{"loading", resident_peaks_[0]}, {"training", resident_peaks_[1]}, {"saving", resident_peaks_[2]}}}};
}

void TrainingReport::end(std::string state, nlohmann::ordered_json failure) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (record_.ended) return;
    summary_.num_steps = steps_done_;
    summary_.seconds = seconds();
    record_.ended = std::chrono::system_clock::now();
    record_.state = std::move(state);
    record_.result = result();
    record_.failure = std::move(failure);
    output_.write_run_record(autoglm::to_json(record_), false);
  } catch (const std::exception& error) {
    spdlog::warn("{}: how the run ended is not written down", error.what());
  }
}

void TrainingReport::fail(const FailureSummary& failure) noexcept {
  end("failed", {{"exit_code", failure.exit_code}, {"message", failure.sentence}});
}

void TrainingReport::interrupted(int signal) noexcept {
  const char* name = ::sigabbrev_np(signal);
  end("stopped", {{"signal", signal},
                  {"message", fmt::format("ended by signal {} (SIG{}){}", signal, name ? name : "?",
                                          signal == SIGTERM || signal == SIGINT
                                              ? "; SIGUSR1 to mpirun asks for a checkpoint first"
                                              : "")}});
}

void TrainingReport::stopped(const std::string& message) noexcept {
  end("stopped", {{"exit_code", static_cast<int>(ExitCode::stopped)}, {"message", message}});
}

void TrainingReport::finish() {
  const std::lock_guard lock(mutex_);
  if (record_.ended) return;
  summary_.seconds = seconds();
  summary_.output = output_.path();
  RunRecord finished = record_;
  finished.ended = std::chrono::system_clock::now();
  finished.state = "finished";
  finished.result = result();
  output_.write_run_record(autoglm::to_json(finished), true);
  record_ = std::move(finished);
  metrics_->move_to(output_.path() / kMetricsName);
  for (const auto& sink : sinks_) sink->finish(summary_);
}

}  // namespace autoglm
