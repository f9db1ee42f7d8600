// autoglm-export: checkpoints become model directories, are verified and listed.
#include <unistd.h>

#include "launcher/command_main.h"
#include "launcher/export/export_command.h"
#include "launcher/report/build_info.h"

int main(int argc, char** argv) {
  using namespace autoglm;
  ExportCommandLine line;
  const auto answer = [&](const RankEnvironment& environment, Console& console) {
    const ExportOptions& options = line.options();
    const auto print = [&](const std::string& text) { print_to_stdout(text, environment); };
    if (!options.checkpoint.empty())
      export_checkpoint(options, console);
    else if (!options.verify.empty())
      verify_checkpoints(options, print, console);
    else
      list_checkpoints(options, print);
    return 0;
  };
  return command_main(argc, argv,
                      {"autoglm-export", version_of("autoglm-export"),
                       [&](const auto& arguments) { return line.parse(arguments); },
                       [&] { return line.help(help_columns(STDOUT_FILENO)); }, answer});
}
