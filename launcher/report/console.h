// What a person watches: lines that stay, and one live line below them that is redrawn in place.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace autoglm {

// Columns of the terminal behind a stream now, 0 when there is none on which a line can be redrawn.
using TerminalColumns = std::function<int()>;

// For file descriptor `fd` of this process. Under mpirun a rank's streams are pipes to mpirun; then the
// terminal is the one that mpirun itself writes to, unless it tags the lines. TERM=dumb counts as no
// terminal.
TerminalColumns terminal_columns(int fd);

// Columns of the terminal behind a stream of this process, whatever it can redraw; 0 when there is none.
int screen_columns(int fd);

// Whether text for a terminal of so many columns is coloured: not without one, nor where NO_COLOR is set
// (no-color.org).
bool wants_color(int terminal_columns);

// Columns that --help may use.
std::size_t help_columns(int fd);

// All functions are thread-safe. Output that fails is dropped: what a person watches never stops a training.
class Console {
 public:
  Console(int fd, TerminalColumns columns);

  // Writes `text` and a line end, above the live line.
  void print(std::string_view text);

  // Replaces the live line; empty removes it. Without a terminal, does nothing. Cut to the terminal's width.
  void set_live_line(std::string_view text);

  int columns() const { return columns_(); }

 private:
  std::string clear_live_line() const;
  void write(std::string_view text);

  const int fd_;
  const TerminalColumns columns_;
  std::mutex mutex_;
  std::string live_line_;
};

// The console on standard error that log and progress share.
Console& stderr_console();

// The first columns of `text`, UTF-8 characters whole, each counted as one column.
std::string_view cut_to_columns(std::string_view text, int columns);

}  // namespace autoglm
