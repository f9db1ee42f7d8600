// What is measured of a training, and where it goes.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "checkpoint/file.h"
#include "trainer/loop_listener.h"

namespace autoglm {

// The largest among all ranks.
struct RankExtremes {
  std::int64_t device_peak_bytes = 0;  // of the arena that tensors live in
  std::int64_t host_peak_bytes = 0;    // resident memory of the process
  double exposed_seconds = 0;          // of the step, waiting for communication and transfers
};

// One optimizer step.
struct StepMetrics {
  StepReport report;
  RankExtremes largest;
  std::optional<std::int64_t> predicted_device_peak_bytes;
  double tokens_per_second = 0;  // over all ranks
};

struct EvaluationMetrics {
  std::int64_t step = 0;  // steps done before it; 0: before training
  double validation_loss = 0;
};

// How a training ended.
struct RunSummary {
  std::int64_t num_steps = 0;
  std::int64_t tokens = 0;
  double seconds = 0;  // of the whole training, evaluations included
  std::optional<double> first_loss, last_loss;
  std::optional<double> first_validation_loss, last_validation_loss;
  std::int64_t device_peak_bytes = 0;
  std::optional<std::int64_t> predicted_device_peak_bytes;
  std::filesystem::path output;
};

// Takes what happens in a training, in order. On rank 0 only.
class MetricsSink {
 public:
  virtual ~MetricsSink() = default;
  virtual void step(const StepMetrics& /*metrics*/) {}
  virtual void evaluation(const EvaluationMetrics& /*metrics*/) {}
  // Something that happened between steps: an object with "event" and "step".
  virtual void event(const nlohmann::ordered_json& /*event*/) {}
  // A prompt of --sample and the model's answer to it.
  virtual void sample(const std::string& /*prompt*/, const std::string& /*answer*/) {}
  virtual void finish(const RunSummary& /*summary*/) {}
};

// metrics.jsonl: one JSON object per line, in the order written, complete after each call. Numbers that are
// not finite are null, for JSON has none.
class MetricsWriter : public MetricsSink {
 public:
  // Creates the file. Throws Error(cannot_create), also when there is one already. With `kept_bytes` goes on with one
  // that is there, behind so many bytes of it, and drops the rest; throws Error(io_failed) where it has fewer.
  explicit MetricsWriter(const std::filesystem::path& path, std::optional<std::uint64_t> kept_bytes = {});

  // Tries once more to write what is kept back.
  ~MetricsWriter() override;

  // A line that cannot be written is kept back, with one warning, and written with a later one. A file that was
  // removed, or whose folder was, is made again with all that it held.
  void step(const StepMetrics& metrics) override;
  void evaluation(const EvaluationMetrics& metrics) override;
  void event(const nlohmann::ordered_json& event) override;

  // Bytes of whole lines in the file, and how many of these are durable from now on. From any thread. Throws
  // Error(io_failed).
  std::uint64_t size() const { return size_; }
  void sync() const;

  // From now on in another file, which gets all that was written. Where that fails, it says so and goes on as it was.
  void move_to(const std::filesystem::path& path);

 private:
  void write_kept();
  void write_again(const std::filesystem::path& path);

  File file_;
  std::atomic<std::uint64_t> size_ = 0;
  std::string kept_;  // whole lines that are not in the file yet
  bool warned_ = false;
};

}  // namespace autoglm
