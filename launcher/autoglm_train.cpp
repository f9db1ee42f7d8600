// autoglm-train: fully fine-tunes a language model.
#include <unistd.h>

#include "launcher/command_main.h"
#include "launcher/job/train_command.h"
#include "launcher/report/build_info.h"

int main(int argc, char** argv) {
  using namespace autoglm;
  TrainCommandLine line;
  return command_main(argc, argv,
                      {"autoglm-train", version_of("autoglm-train"),
                       [&](const auto& arguments) { return line.parse(arguments); },
                       [&] { return line.help(help_columns(STDOUT_FILENO)); },
                       [&](const auto&, auto&) { return run_training(line.options()); }});
}
