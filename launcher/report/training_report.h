// What rank 0 writes and shows while a training runs: progress, metrics.jsonl, run.json.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint/output_directory.h"
#include "launcher/job/job_device.h"
#include "launcher/job/memory_recovery.h"
#include "launcher/options/train_options.h"
#include "launcher/report/metrics.h"
#include "launcher/report/progress.h"
#include "launcher/report/run_record.h"
#include "sharding/communicator.h"
#include "sharding/memory/statistics.h"
#include "trainer/training_loop.h"

namespace autoglm {

// The largest among all ranks.
struct RankExtremes {
  std::int64_t device_peak_bytes = 0;  // of the arena that tensors live in
  std::int64_t host_peak_bytes = 0;    // resident memory of the process
  double exposed_seconds = 0;          // of the step
};

// Bytes of resident memory at their highest in one phase of a job, the largest among all ranks.
enum class JobPhase { loading, training, saving };

// The highest resident memory since the last call (or since the start), which begins a new phase. Collective.
std::int64_t take_resident_peak(Communicator& communicator);

// Collective.
RankExtremes largest_of_ranks(Communicator& communicator, const StepReport& step);

// One object per rank for run.json: its host, its number there, and its device. Collective.
nlohmann::ordered_json describe_ranks(Communicator& communicator, int local_rank, const JobDevice& device);

// What was foreseen for a rank.
struct MemoryExpectation {
  MemoryStatistics predicted;
  std::int64_t device_budget = 0;  // bytes
  std::int64_t resident = 0;       // bytes of the whole process, on a CPU; 0: not foreseen
};

class TrainingReport {
 public:
  // Creates metrics.jsonl and writes the first run.json. Throws what these throw.
  TrainingReport(const TrainOptions& options, nlohmann::ordered_json plan, nlohmann::ordered_json ranks,
                 const std::string& mpi_version, const OutputDirectory& output, std::int64_t num_steps,
                 const MemoryExpectation& expected);

  void step(const StepReport& step, const RankExtremes& largest);
  void evaluation(std::int64_t step, double loss);
  // Memory ran out; from now on `predicted` is what is expected.
  void out_of_memory(const MemoryEvent& event, const MemoryStatistics& predicted);
  void sample(const std::string& prompt, const std::string& answer);

  void resident_peak(JobPhase phase, std::int64_t bytes) {
    resident_peaks_[static_cast<std::size_t>(phase)] = bytes;
  }

  // Marks the run as finished in run.json and shows the summary.
  void finish();

 private:
  nlohmann::ordered_json result() const;
  void compare_memory(std::int64_t step, std::int64_t device_peak);

  const OutputDirectory& output_;
  RunRecord record_;
  MetricsWriter metrics_;
  Progress progress_;
  RunSummary summary_;
  std::array<std::int64_t, 3> resident_peaks_{};
  MemoryExpectation expected_;
  std::int64_t steps_of_plan_ = 0;  // since memory last ran out
  std::int64_t settled_peak_ = 0;   // after the first steps
  bool warned_ = false;
  nlohmann::ordered_json events_ = nlohmann::ordered_json::array();
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace autoglm
