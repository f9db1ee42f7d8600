// autoglm-plan: what fits, before there is a GPU.
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "launcher/build_info.h"
#include "launcher/command_main.h"
#include "launcher/logging.h"
#include "launcher/plan_command.h"

namespace {

using namespace autoglm;

int run(const std::vector<std::string>& arguments, const RankEnvironment& environment) {
  PlanCommandLine command_line;
  switch (command_line.parse(arguments)) {
    case OptionRequest::help:
      print_to_stdout(command_line.help(), environment);
      return 0;
    case OptionRequest::version:
      print_to_stdout(version_text("autoglm-plan", TORCH_VERSION, kWithCuda) + "\n", environment);
      return 0;
    case OptionRequest::run:
      break;
  }
  int exit_code = 0;
  print_to_stdout(answer_plan(command_line.options(), terminal_columns(STDOUT_FILENO)(), exit_code),
                  environment);
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  const RankEnvironment environment = rank_from_environment();
  Console& console = stderr_console();
  return run_command("autoglm-plan", console, environment, [&] {
    start_logging(console, environment.rank, environment.world_size);
    return run(std::vector<std::string>(argv + 1, argv + argc), environment);
  });
}
