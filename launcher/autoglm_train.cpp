// autoglm-train: fully fine-tunes a language model.
#include <torch/headeronly/version.h>

#include <string>
#include <vector>

#include "launcher/build_info.h"
#include "launcher/command_main.h"
#include "launcher/logging.h"
#include "launcher/train_command.h"

namespace {

using namespace autoglm;

int run(const std::vector<std::string>& arguments, const RankEnvironment& environment) {
  TrainCommandLine command_line;
  switch (command_line.parse(arguments)) {
    case OptionRequest::help:
      print_to_stdout(command_line.help(), environment);
      return 0;
    case OptionRequest::version:
      print_to_stdout(version_text("autoglm-train", TORCH_VERSION, kWithCuda) + "\n", environment);
      return 0;
    case OptionRequest::run:
      break;
  }
  return run_training(command_line.options());
}

}  // namespace

int main(int argc, char** argv) {
  const RankEnvironment environment = rank_from_environment();
  Console& console = stderr_console();
  return run_command("autoglm-train", console, environment, [&] {
    start_logging(console, environment.rank, environment.world_size);
    return run(std::vector<std::string>(argv + 1, argv + argc), environment);
  });
}
