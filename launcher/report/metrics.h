// What is measured of a training: written to metrics.jsonl and shown as progress.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "checkpoint/file.h"

namespace autoglm {

// One optimizer step, over all ranks.
struct StepMetrics {
  std::int64_t step = 0;       // from 1
  double epoch = 0;            // passes over the data after this step: 0.5 in the middle of the first
  std::optional<double> loss;  // none when the step had no supervised token, and so updated nothing
  double learning_rate = 0;
  std::optional<double> gradient_norm;  // before clipping; none when loss is
  std::int64_t tokens = 0;              // padding not counted
  std::int64_t supervised_tokens = 0;
  double step_seconds = 0;
  double tokens_per_second = 0;
  std::int64_t device_peak_bytes = 0;  // largest of the ranks, and so below
  std::int64_t host_peak_bytes = 0;
  std::optional<std::int64_t> predicted_device_peak_bytes;
  double exposed_seconds = 0;  // waiting for communication and transfers
};

struct EvaluationMetrics {
  std::int64_t step = 0;  // steps done before it; 0: before training
  double validation_loss = 0;
};

// metrics.jsonl: one JSON object per line, in the order written, complete after each call. Numbers that are
// not finite are null, for JSON has none.
class MetricsWriter {
 public:
  // Creates the file. Throws Error(cannot_create), also when there is one already.
  explicit MetricsWriter(const std::filesystem::path& path);

  // Throw Error(io_failed), for example when the disk is full.
  void write(const StepMetrics& metrics);
  void write(const EvaluationMetrics& metrics);
  // Something that happened between steps: an object with "event" and "step".
  void write_event(const nlohmann::ordered_json& event);

 private:
  void write_line(std::string line);

  File file_;
  std::uint64_t size_ = 0;
};

}  // namespace autoglm
