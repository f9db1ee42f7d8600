#include "launcher/report/console.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

namespace autoglm {
namespace {

constexpr int kNarrowestHelp = 60, kWidestHelp = 100;
constexpr std::string_view kClearLine = "\r\x1b[K";

int window_columns(int fd) {
  winsize size{};
  if (isatty(fd) == 0 || ioctl(fd, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

// mpirun's own handle of the stream `fd` as a terminal of ours; invalid when it is none.
class LauncherTerminal {
 public:
  explicit LauncherTerminal(const std::string& path)
      : descriptor_(open(path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) {}
  LauncherTerminal(const LauncherTerminal&) = delete;
  LauncherTerminal& operator=(const LauncherTerminal&) = delete;
  ~LauncherTerminal() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int columns() const { return window_columns(descriptor_); }

 private:
  const int descriptor_;
};

// Where mpirun, the parent of this process, sends what it reads from a rank's stream; empty when that is no
// terminal or when mpirun tags every line, which leaves nothing to redraw.
std::string mpirun_terminal(int fd) {
  for (const char* tagged :
       {"OMPI_MCA_orte_tag_output", "OMPI_MCA_orte_timestamp_output", "OMPI_MCA_orte_xml_output"})
    if (std::getenv(tagged) != nullptr) return {};
  const std::string parent = fmt::format("/proc/{}", getppid());
  std::string name;
  std::ifstream(parent + "/comm") >> name;
  if (name != "mpirun" && name != "orterun" && name != "mpiexec") return {};
  std::error_code failed;
  const std::string target =
      std::filesystem::read_symlink(fmt::format("{}/fd/{}", parent, fd), failed).string();
  return target.starts_with("/dev/") ? target : "";
}

bool refuses_escapes() {
  const char* refused = std::getenv("NO_COLOR");
  return refused != nullptr && *refused != '\0';
}

}  // namespace

TerminalColumns terminal_columns(int fd) {
  const char* kind = std::getenv("TERM");
  if (kind == nullptr || std::string_view(kind) == "dumb") return [] { return 0; };
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) {
    const std::string path = mpirun_terminal(fd);
    if (path.empty()) return [] { return 0; };
    return [terminal = std::make_shared<LauncherTerminal>(path)] { return terminal->columns(); };
  }
  return [fd] { return window_columns(fd); };
}

int screen_columns(int fd) {
  return window_columns(fd);
}

bool wants_color(int terminal_columns) {
  return terminal_columns > 0 && !refuses_escapes();
}

std::size_t help_columns(int fd) {
  const int columns = screen_columns(fd);
  return static_cast<std::size_t>(columns == 0 ? kWidestHelp
                                               : std::clamp(columns, kNarrowestHelp, kWidestHelp));
}

Console::Console(int fd, TerminalColumns columns) : fd_(fd), columns_(std::move(columns)) {}

void Console::print(std::string_view text) {
  const std::lock_guard lock(mutex_);
  std::string output;
  if (!live_line_.empty()) output += clear_live_line();
  output.append(text).append("\n").append(live_line_);
  write(output);
}

void Console::set_live_line(std::string_view text) {
  const std::lock_guard lock(mutex_);
  const int columns = columns_();
  if (columns == 0) return;
  // The last column stays free: a terminal may wrap when it is written.
  const std::string line(cut_to_columns(text, columns - 1));
  if (line.empty() && live_line_.empty()) return;
  write(clear_live_line() + line);
  live_line_ = line;
}

// Who wants no colour may have a terminal that takes no escapes either: then with spaces.
std::string Console::clear_live_line() const {
  if (!refuses_escapes()) return std::string(kClearLine);
  const auto shown = static_cast<std::size_t>(std::max(0, columns_() - 1));
  return fmt::format("\r{:{}}\r", "", std::min(live_line_.size(), shown));
}

void Console::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

Console& stderr_console() {
  static Console console(STDERR_FILENO, terminal_columns(STDERR_FILENO));
  return console;
}

std::string_view cut_to_columns(std::string_view text, int columns) {
  std::size_t end = 0;
  for (int column = 0; end < text.size(); ++end) {
    const bool begins_character = (static_cast<unsigned char>(text[end]) & 0xC0) != 0x80;
    if (begins_character && ++column > columns) break;
  }
  return text.substr(0, end);
}

}  // namespace autoglm
