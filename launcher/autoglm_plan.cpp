// autoglm-plan: what fits, before there is a GPU.
#include <unistd.h>

#include "launcher/command_main.h"
#include "launcher/plan/plan_command.h"
#include "launcher/report/build_info.h"

int main(int argc, char** argv) {
  using namespace autoglm;
  PlanCommandLine line;
  const auto answer = [&](const RankEnvironment& environment, Console&) {
    int exit_code = 0;
    const Screen screen{screen_columns(STDOUT_FILENO), wants_color(terminal_columns(STDOUT_FILENO)())};
    print_to_stdout(answer_plan(line.options(), screen, exit_code), environment);
    return exit_code;
  };
  return command_main(argc, argv,
                      {"autoglm-plan", version_of("autoglm-plan"),
                       [&](const auto& arguments) { return line.parse(arguments); },
                       [&] { return line.help(help_columns(STDOUT_FILENO)); }, answer});
}
