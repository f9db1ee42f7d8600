#include "launcher/report/logging.h"

#include <fmt/core.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <string>

namespace autoglm {
namespace {

std::string_view kind_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::warn:
      return "warning: ";
    case spdlog::level::err:
    case spdlog::level::critical:
      return "error: ";
    default:
      return "";
  }
}

class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  ConsoleSink(Console& console, std::string prefix) : console_(console), prefix_(std::move(prefix)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    console_.print(fmt::format("{}{}{}", prefix_, kind_of(message.level), text));
  }
  void flush_() override {}

  Console& console_;
  const std::string prefix_;
};

}  // namespace

void start_logging(Console& console, int rank, int world_size) {
  const std::string prefix = world_size > 1 && rank != 0 ? fmt::format("rank {}: ", rank) : "";
  auto logger = std::make_shared<spdlog::logger>("autoglm", std::make_shared<ConsoleSink>(console, prefix));
  logger->set_level(rank == 0 ? spdlog::level::info : spdlog::level::err);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace autoglm
