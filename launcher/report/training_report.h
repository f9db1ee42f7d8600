// What rank 0 writes and shows of a training: run.json, and metrics to their sinks.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/output_directory.h"
#include "launcher/options/train_options.h"
#include "launcher/report/failure.h"
#include "launcher/report/memory_watch.h"
#include "launcher/report/metrics.h"
#include "launcher/report/run_record.h"
#include "launcher/report/save_report.h"

namespace autoglm {

// Whose resident memory at its highest is reported apart.
enum class JobPhase { loading, training, saving };

// What was reported of a run before the checkpoint that it goes on from: so_far(). Null: nothing.
struct ReportedSoFar {
  std::int64_t step = 0;
  nlohmann::ordered_json values = nullptr;
};

// What tells a run from others.
struct RunMarks {
  std::string run;                // 32 digits
  nlohmann::ordered_json inputs;  // to_json(InputMarks)
};

class TrainingReport {
 public:
  // Creates metrics.jsonl and writes the first run.json. `output` must outlive the report. Throws what these
  // throw.
  TrainingReport(const TrainOptions& options, nlohmann::ordered_json plan, nlohmann::ordered_json ranks,
                 const std::string& mpi_version, OutputDirectory& output, std::int64_t num_steps,
                 const MemoryExpectation& expected, RunMarks marks, const ReportedSoFar& earlier = {});

  // What a checkpoint keeps of the report: what was reported so far. From the training's thread.
  nlohmann::ordered_json so_far() const;
  // Makes durable what was reported. From any thread. Throws Error(io_failed).
  void sync() const { metrics_->sync(); }

  // A checkpoint was written, or could not be.
  void saved(const SaveReport& save);

  void step(const StepReport& step, const RankExtremes& largest);
  void evaluation(std::int64_t step, double loss);
  // Memory ran out; from now on `predicted` is what is expected.
  void out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted);
  void sample(const std::string& prompt, const std::string& answer);

  // Bytes of resident memory, the largest among all ranks.
  void resident_peak(JobPhase phase, std::int64_t bytes) {
    resident_peaks_[static_cast<std::size_t>(phase)] = bytes;
  }

  // Marks the run as finished in run.json and shows the summary, once. May be called again when it throws.
  void finish();

  // Writes down in run.json why the run ends unfinished, as far as that is possible; nothing is thrown. The
  // second one is called from another thread while the run goes on.
  void fail(const FailureSummary& failure) noexcept;
  void interrupted(int signal) noexcept;
  // Ended on request, to be gone on with.
  void stopped(const std::string& message) noexcept;

 private:
  nlohmann::ordered_json result() const;
  void go_on(const ReportedSoFar& earlier);
  double seconds() const;
  void end(std::string state, nlohmann::ordered_json failure) noexcept;

  OutputDirectory& output_;
  mutable std::mutex mutex_;  // of what a signal's thread reads
  RunRecord record_;
  std::vector<std::unique_ptr<MetricsSink>> sinks_;
  MetricsWriter* metrics_ = nullptr;  // of sinks_
  RunSummary summary_;
  MemoryWatch memory_;
  std::int64_t steps_done_ = 0;
  double earlier_seconds_ = 0;  // of the run before the checkpoint
  std::array<std::int64_t, 3> resident_peaks_{};
  nlohmann::ordered_json events_ = nlohmann::ordered_json::array();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace autoglm
