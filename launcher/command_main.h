// What the mains of all commands share: help, version, and failures that become a sentence and an exit code.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/options/option_table.h"
#include "launcher/report/console.h"
#include "sharding/launch.h"

namespace autoglm {

struct Command {
  std::string name;
  std::string version;  // version_of(name), of report/build_info.h
  // Reads the arguments, without the program's name; throws Error(usage).
  std::function<OptionRequest(const std::vector<std::string>&)> parse;
  std::function<std::string()> help;
  // What the command does, once its arguments are read; returns the exit code.
  std::function<int(const RankEnvironment&, Console&)> run;
};

// Runs a command and returns the program's exit code; what it throws is reported (report/failure.h).
int command_main(int argc, char** argv, const Command& command);

// Writes to standard output, once for all ranks. Throws Error(io_failed) when that does not work.
void print_to_stdout(std::string_view text, const RankEnvironment& environment);

}  // namespace autoglm
