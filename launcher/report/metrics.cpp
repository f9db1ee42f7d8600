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

void MetricsWriter::write(const StepMetrics& metrics) {
  const nlohmann::ordered_json object = {
      {"step", metrics.step},
      {"epoch", metrics.epoch},
      {"loss", number_or_null(metrics.loss)},
      {"learning_rate", metrics.learning_rate},
      {"gradient_norm", number_or_null(metrics.gradient_norm)},
      {"tokens", metrics.tokens},
      {"supervised_tokens", metrics.supervised_tokens},
      {"step_seconds", metrics.step_seconds},
      {"tokens_per_second", metrics.tokens_per_second},
      {"device_peak_bytes", metrics.device_peak_bytes},
      {"host_peak_bytes", metrics.host_peak_bytes},
      {"predicted_device_peak_bytes", number_or_null(metrics.predicted_device_peak_bytes)},
      {"exposed_seconds", metrics.exposed_seconds},
  };
  write_line(object.dump());
}

void MetricsWriter::write(const EvaluationMetrics& metrics) {
  const nlohmann::ordered_json object = {{"step", metrics.step},
                                         {"validation_loss", metrics.validation_loss}};
  write_line(object.dump());
}

void MetricsWriter::write_event(const nlohmann::ordered_json& event) {
  write_line(event.dump());
}

void MetricsWriter::write_line(std::string line) {
  line += '\n';
  file_.write_at(size_, as_bytes(line));
  size_ += line.size();
}

}  // namespace autoglm
