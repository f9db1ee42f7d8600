#include "launcher/report/metrics.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace autoglm {
namespace {

template <typename Number>
nlohmann::ordered_json number_or_null(const std::optional<Number>& number) {
  if (number) return *number;
  return nullptr;
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& path, std::optional<std::uint64_t> kept_bytes)
    : file_(kept_bytes ? File::open_for_writing(path) : File::create(path)), size_(kept_bytes.value_or(0)) {
  if (!kept_bytes) return;
  if (const std::uint64_t size = file_.size(); size < *kept_bytes) {
    fail(ExitCode::io_failed, "{}: has {} bytes, of {} that were there when the checkpoint was written",
         path.string(), size, *kept_bytes);
  }
  file_.truncate(*kept_bytes);
}

void MetricsWriter::sync() const {
  file_.sync();
}

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
  constexpr std::size_t kMostKept = std::size_t{64} << 20;
  kept_ += event.dump() + '\n';
  try {
    write_kept();
  } catch (const Error& error) {
    file_.truncate(size_);  // no half line
    if (kept_.size() > kMostKept) kept_.erase(0, kept_.find('\n') + 1);
    if (!warned_) spdlog::warn("{}; lines are kept back until there is room", error.what());
    warned_ = true;
  }
}

void MetricsWriter::write_again(const std::filesystem::path& path) {
  create_folders(path.parent_path());
  std::string earlier(size_, '\0');
  file_.read_at(0, std::as_writable_bytes(std::span(earlier)));
  File again = File::create(path);
  again.write_at(0, as_bytes(earlier));
  file_ = std::move(again);
}

void MetricsWriter::move_to(const std::filesystem::path& path) {
  if (path == file_.path()) return;
  try {
    write_again(path);
  } catch (const Error& error) {
    spdlog::warn("{}; the metrics are not beside the model", error.what());
  }
}

void MetricsWriter::write_kept() {
  if (!file_.is_in_place()) {
    write_again(file_.path());
    spdlog::warn("{}: was removed, and is made again", file_.path().string());
  }
  file_.write_at(size_, as_bytes(kept_));
  size_ += kept_.size();
  kept_.clear();
  warned_ = false;
}

MetricsWriter::~MetricsWriter() {
  if (kept_.empty()) return;
  try {
    write_kept();
  } catch (const std::exception& error) {
    file_.truncate(size_);
    spdlog::warn("{}; the last {} lines of metrics are lost", error.what(), std::ranges::count(kept_, '\n'));
  }
}

}  // namespace autoglm
