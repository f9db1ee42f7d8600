#include "launcher/report/progress.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/units.h"

namespace autoglm {
namespace {

constexpr std::string_view kGap = "  ";
constexpr double kAverageWeight = 0.1;

struct Part {
  std::string text;
  int leaves_at;  // 0: never leaves; otherwise the highest number leaves first
};

std::string joined(const std::vector<Part>& parts) {
  std::string line;
  for (const Part& part : parts) {
    if (!line.empty()) line += kGap;
    line += part.text;
  }
  return line;
}

std::string format_rate(double tokens_per_second) {
  if (tokens_per_second < 10'000) return fmt::format("{:.0f} tok/s", tokens_per_second);
  return fmt::format("{:.1f}k tok/s", tokens_per_second / 1000);
}

std::string format_count(std::int64_t count) {
  const auto value = static_cast<double>(count);
  if (count < 10'000) return fmt::format("{}", count);
  if (count < 1'000'000) return fmt::format("{:.1f} thousand", value / 1e3);
  if (count < 1'000'000'000) return fmt::format("{:.2f} million", value / 1e6);
  return fmt::format("{:.2f} billion", value / 1e9);
}

std::string loss_change(std::string_view title, const std::optional<double>& first,
                        const std::optional<double>& last) {
  if (!first || !last) return "";
  return fmt::format("{:<17}{:.4f} -> {:.4f}\n", title, *first, *last);
}

// The text cannot move the cursor or colour what follows.
std::string printable(std::string_view text) {
  std::string result;
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (byte >= 0x20 && byte != 0x7F)
      result += character;
    else if (character == '\n')
      result += "\n  ";
    else
      result += character == '\t' ? ' ' : '?';
  }
  return result;
}

}  // namespace

std::string format_step(const StepMetrics& metrics, std::int64_t num_steps,
                        std::optional<double> seconds_left, int columns) {
  const StepReport& step = metrics.report;
  std::vector<Part> parts;
  parts.push_back({fmt::format("step {}/{}", step.step, num_steps), 0});
  parts.push_back({fmt::format("epoch {:.2f}", step.epoch), 4});
  parts.push_back({step.loss ? fmt::format("loss {:.4f}", *step.loss) : "loss none", 0});
  parts.push_back({fmt::format("lr {:.1e}", step.learning_rate), 5});
  if (step.gradient_norm) parts.push_back({fmt::format("grad {:.2f}", *step.gradient_norm), 6});
  parts.push_back({format_rate(metrics.tokens_per_second), 2});
  // Waits of the optimizer count with the step that follows, which may be a shorter one.
  if (const double waits = metrics.largest.exposed_seconds; waits > 0 && step.seconds > 0)
    parts.push_back({fmt::format("waits {:.1f} %", 100 * std::min(1.0, waits / step.seconds)), 6});
  parts.push_back({format_bytes(metrics.largest.device_peak_bytes), 3});
  if (seconds_left) parts.push_back({format_duration(*seconds_left) + " left", 1});
  std::string line = joined(parts);
  while (columns > 0 && line.size() > static_cast<std::size_t>(columns)) {
    const auto leaving = std::max_element(
        parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.leaves_at < b.leaves_at; });
    if (leaving->leaves_at == 0) break;
    parts.erase(leaving);
    line = joined(parts);
  }
  return line;
}

std::string format_evaluation(const EvaluationMetrics& metrics, std::int64_t num_steps,
                              std::optional<double> loss_before) {
  std::string line =
      fmt::format("step {}/{}  validation loss {:.4f}", metrics.step, num_steps, metrics.validation_loss);
  if (loss_before) line += fmt::format(" ({:.4f} before training)", *loss_before);
  return line;
}

std::string format_summary(const RunSummary& summary) {
  const double rate = summary.seconds > 0 ? static_cast<double>(summary.tokens) / summary.seconds : 0;
  std::string text = fmt::format("trained {} {} in {}: {} tokens, {}\n", summary.num_steps,
                                 summary.num_steps == 1 ? "step" : "steps", format_duration(summary.seconds),
                                 format_count(summary.tokens), format_rate(rate));
  text += loss_change("training loss", summary.first_loss, summary.last_loss);
  text += loss_change("validation loss", summary.first_validation_loss, summary.last_validation_loss);
  text += fmt::format("{:<17}{}", "peak memory", format_bytes(summary.device_peak_bytes));
  if (summary.predicted_device_peak_bytes)
    text += fmt::format(" ({} predicted)", format_bytes(*summary.predicted_device_peak_bytes));
  return text + fmt::format("\n{:<17}{}", "model written to", summary.output.string());
}

void TimeLeft::add(double step_seconds) {
  ++num_steps_;
  // A plain mean at first; then old steps fade, so that the estimate follows a change.
  const double weight =
      num_steps_ <= 2 ? 1.0 : std::max(kAverageWeight, 1.0 / static_cast<double>(num_steps_ - 1));
  average_ += weight * (step_seconds - average_);
}

std::optional<double> TimeLeft::estimate(std::int64_t steps_left) const {
  if (num_steps_ == 0 || steps_left <= 0) return std::nullopt;
  return average_ * static_cast<double>(steps_left);
}

Progress::Progress(Console& console, std::int64_t num_steps, std::int64_t log_every)
    : console_(console), num_steps_(num_steps), log_every_(log_every) {}

Progress::~Progress() {
  console_.set_live_line("");
}

void Progress::step(const StepMetrics& metrics) {
  const std::int64_t step = metrics.report.step;
  time_left_.add(metrics.report.seconds);
  const std::optional<double> left = time_left_.estimate(num_steps_ - step);
  const int columns = console_.columns();
  // One column stays free at the terminal's edge.
  if (columns > 0) return console_.set_live_line(format_step(metrics, num_steps_, left, columns - 1));
  if (step == 1 || step == num_steps_ || step % log_every_ == 0)
    console_.print(format_step(metrics, num_steps_, left, 0));
}

void Progress::evaluation(const EvaluationMetrics& metrics) {
  console_.print(format_evaluation(metrics, num_steps_, loss_before_));
  if (metrics.step == 0) loss_before_ = metrics.validation_loss;
}

void Progress::sample(const std::string& prompt, const std::string& answer) {
  console_.print(fmt::format("  > {}\n  {}", printable(prompt), printable(answer)));
}

void Progress::finish(const RunSummary& summary) {
  console_.set_live_line("");
  console_.print(format_summary(summary));
}

}  // namespace autoglm
