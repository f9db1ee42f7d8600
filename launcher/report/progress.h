// What a person sees of a running training.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/report/console.h"
#include "launcher/report/metrics.h"

namespace autoglm {

// "step 12/340  epoch 0.35  loss 1.7321  lr 2.9e-04  grad 0.83  412 tok/s  1.90 GiB  3m05s left". Where
// `columns` is not 0 and the line is longer, parts are left out, the least telling first; step and loss
// always stay.
std::string format_step(const StepMetrics& metrics, std::int64_t num_steps,
                        std::optional<double> seconds_left, int columns);

// "step 12/340  validation loss 1.6312 (1.7201 before training)"
std::string format_evaluation(const EvaluationMetrics& metrics, std::int64_t num_steps,
                              std::optional<double> loss_before);

// A few lines, the last one without a line end.
std::string format_summary(const RunSummary& summary);

// Seconds that the remaining steps will take: a moving average over the last steps, in which the first step
// of all, which also warms up, counts only until there is a second one.
class TimeLeft {
 public:
  void add(double step_seconds);
  // None before the first step and after the last.
  std::optional<double> estimate(std::int64_t steps_left) const;

 private:
  std::int64_t num_steps_ = 0;
  double average_ = 0;
};

// Shows a training on `console`: one line redrawn after every step where there is a terminal, otherwise a
// line every `log_every` steps, after the first and after the last.
class Progress : public MetricsSink {
 public:
  Progress(Console& console, std::int64_t num_steps, std::int64_t log_every);
  ~Progress() override;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void step(const StepMetrics& metrics) override;
  void evaluation(const EvaluationMetrics& metrics) override;
  void sample(const std::string& prompt, const std::string& answer) override;
  void finish(const RunSummary& summary) override;

 private:
  Console& console_;
  const std::int64_t num_steps_;
  const std::int64_t log_every_;
  TimeLeft time_left_;
  std::optional<double> loss_before_;
};

}  // namespace autoglm
