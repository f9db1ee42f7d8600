#include "launcher/command_main.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "launcher/report/failure.h"
#include "launcher/report/logging.h"

namespace autoglm {
namespace {

int run(const Command& command, const std::vector<std::string>& arguments, const RankEnvironment& environment,
        Console& console) {
  switch (command.parse(arguments)) {
    case OptionRequest::help:
      print_to_stdout(command.help(), environment);
      return 0;
    case OptionRequest::version:
      print_to_stdout(command.version + "\n", environment);
      return 0;
    case OptionRequest::run:
      break;
  }
  return command.run(environment, console);
}

// A program that was started with a standard descriptor closed would give its number to the next file that it
// opens, and then print into that file. What is written to one of these placeholders fails, and is dropped.
void occupy_standard_descriptors() {
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor) {
    if (::fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF) continue;
    if (::open("/dev/null", O_RDONLY) < 0) return;  // takes the lowest free number, which is this one
  }
}

}  // namespace

int command_main(int argc, char** argv, const Command& command) {
  occupy_standard_descriptors();
  // Writing beyond the limit on file sizes then fails like writing to a full disk, and says so.
  std::signal(SIGXFSZ, SIG_IGN);
  const RankEnvironment environment = rank_from_environment();
  Console& console = stderr_console();
  try {
    start_logging(console, environment.rank, environment.world_size);
    return run(command, std::vector<std::string>(argv + 1, argv + argc), environment, console);
  } catch (...) {
    return report_failure(command.name, console, environment, std::current_exception());
  }
}

void print_to_stdout(std::string_view text, const RankEnvironment& environment) {
  if (!environment.speaks_for_command_line) return;
  const std::size_t written = std::fwrite(text.data(), 1, text.size(), stdout);
  if (written != text.size() || std::fflush(stdout) != 0)
    fail(ExitCode::io_failed, "cannot write to standard output: {}", std::strerror(errno));
}

}  // namespace autoglm
