#include "launcher/report/metrics.h"

#include <nlohmann/json.hpp>
#include <string>

namespace autoglm {
namespace {

template <typename Number>
nlohmann::ordered_json number_or_null(const std::optional<Number>& number) {
  if (number) return *number;
  return nullptr;
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& path) : file_(File::create(path)) {}

void MetricsWriter::step(const StepMetrics& metrics) {
  const StepReport& report = metrics.report;
  event({
      {"step", report.step},
      {"epoch", report.epoch},
      {"loss", number_or_null(report.loss)},
      {"learning_rate", report.learning_rate},
      {"gradient_norm", number_or_null(report.gradient_norm)},
      {"tokens", report.tokens},
      {"supervised_tokens", report.supervised_tokens},
      {"step_seconds", report.seconds},
      {"tokens_per_second", metrics.tokens_per_second},
      {"device_peak_bytes", metrics.largest.device_peak_bytes},
      {"host_peak_bytes", metrics.largest.host_peak_bytes},
      {"predicted_device_peak_bytes", number_or_null(metrics.predicted_device_peak_bytes)},
      {"exposed_seconds", metrics.largest.exposed_seconds},
  });
}

void MetricsWriter::evaluation(const EvaluationMetrics& metrics) {
  event({{"step", metrics.step}, {"validation_loss", metrics.validation_loss}});
}

void MetricsWriter::event(const nlohmann::ordered_json& event) {
  const std::string line = event.dump() + '\n';
  file_.write_at(size_, as_bytes(line));
  size_ += line.size();
}

}  // namespace autoglm
