// Stands in for the training job, so that the command around it can be tested by itself: writes the options
// that arrive, or fails the way that the learning rate asks for.
#include <fmt/core.h>

#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "base/error.h"
#include "launcher/job/train_command.h"
#include "spdlog/spdlog.h"

namespace autoglm {

int run_training(const TrainOptions& options) {
  if (options.training.loop.schedule.peak == 0.65)
    fail(ExitCode::bad_data, "{}:3: not a JSON object", options.data.files.at(0).string());
  if (options.training.loop.schedule.peak == 0.70) throw std::runtime_error("lost count\nframe 1\nframe 2");
  if (options.training.loop.schedule.peak == 0.78) throw std::bad_alloc();
  spdlog::warn("only an echo");
  fmt::print("{}\n", to_json(options).dump());
  return 0;
}

}  // namespace autoglm
