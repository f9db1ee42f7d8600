#include "launcher/report/console.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "launcher/report/logging.h"
#include "spdlog/spdlog.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

// What a console writes, read back from a file, on a terminal of `columns` (0: none).
class Recorded {
 public:
  explicit Recorded(int columns)
      : path_(folder_.path() / "screen"),
        descriptor_(open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)),
        columns_(columns),
        console_(descriptor_, [this] { return columns_; }) {}
  ~Recorded() { close(descriptor_); }
  Console& console() { return console_; }
  void resize(int columns) { columns_ = columns; }
  std::string text() const { return read_all(path_); }

 private:
  TemporaryFolder folder_;
  std::filesystem::path path_;
  int descriptor_;
  int columns_;
  Console console_;
};

TEST(Console, PrintsLines) {
  Recorded screen(0);
  screen.console().print("one");
  screen.console().set_live_line("never seen without a terminal");
  screen.console().print("two");
  EXPECT_EQ(screen.text(), "one\ntwo\n");
}

TEST(Console, LinesGoAboveTheLiveLine) {
  Recorded screen(80);
  screen.console().set_live_line("step 1");
  screen.console().print("warning: hot");
  screen.console().set_live_line("step 2");
  screen.console().set_live_line("");
  screen.console().print("done");
  EXPECT_EQ(screen.text(),
            "\r\x1b[Kstep 1"
            "\r\x1b[Kwarning: hot\nstep 1"
            "\r\x1b[Kstep 2"
            "\r\x1b[K"
            "done\n");
}

TEST(Console, LiveLineFollowsTheWidth) {
  Recorded screen(8);
  screen.console().set_live_line("0123456789");
  screen.resize(5);
  screen.console().set_live_line("0123456789");
  EXPECT_EQ(screen.text(), "\r\x1b[K0123456\r\x1b[K0123");
}

TEST(Console, NoColorIsHonoured) {
  unsetenv("NO_COLOR");
  EXPECT_TRUE(wants_color(80));
  EXPECT_FALSE(wants_color(0));
  setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(wants_color(80));
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(wants_color(80));
  Recorded screen(80);
  screen.console().set_live_line("step 1");
  screen.console().set_live_line("");
  screen.console().print("done");
  EXPECT_EQ(screen.text(), "\r\rstep 1\r      \rdone\n");
  unsetenv("NO_COLOR");
}

TEST(Console, LinesOfSeveralThreadsStayWhole) {
  Recorded screen(0);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&screen, t] {
        for (int i = 0; i < 50; ++i) screen.console().print(std::string(40, static_cast<char>('a' + t)));
      });
  }
  std::istringstream lines(screen.text());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_EQ(line, std::string(40, line.at(0)));
  EXPECT_EQ(count, 200);
}

TEST(Console, CutsBetweenCharacters) {
  EXPECT_EQ(cut_to_columns("abc", 2), "ab");
  EXPECT_EQ(cut_to_columns("abc", 5), "abc");
  EXPECT_EQ(cut_to_columns("\xC3\xBC\xE4\xB8\xAD!", 2), "\xC3\xBC\xE4\xB8\xAD");
  EXPECT_EQ(cut_to_columns("abc", 0), "");
}

TEST(Console, AsksTheTerminalForItsWidth) {
  int terminal = -1, other_end = -1;
  ASSERT_EQ(openpty(&other_end, &terminal, nullptr, nullptr, nullptr), 0);
  unsetenv("OMPI_COMM_WORLD_SIZE");
  setenv("TERM", "xterm", 1);
  const TerminalColumns columns = terminal_columns(terminal);
  winsize size{};
  size.ws_col = 91;
  ASSERT_EQ(ioctl(terminal, TIOCSWINSZ, &size), 0);
  EXPECT_EQ(columns(), 91);
  size.ws_col = 40;
  ASSERT_EQ(ioctl(terminal, TIOCSWINSZ, &size), 0);
  EXPECT_EQ(columns(), 40);
  setenv("TERM", "dumb", 1);
  EXPECT_EQ(terminal_columns(terminal)(), 0);
  setenv("TERM", "xterm", 1);
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  EXPECT_EQ(terminal_columns(pipe_ends[1])(), 0);
  // A rank whose parent is not mpirun (here: the test's) has no terminal that it may redraw.
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  EXPECT_EQ(terminal_columns(terminal)(), 0);
  unsetenv("OMPI_COMM_WORLD_SIZE");
  for (const int descriptor : {terminal, other_end, pipe_ends[0], pipe_ends[1]}) close(descriptor);
}

// What logs to a console of the test, until its end.
class Logging : public testing::Test {
 protected:
  ~Logging() override { spdlog::set_default_logger(before_); }

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST_F(Logging, SaysTheKindOfMessage) {
  Recorded screen(0);
  start_logging(screen.console(), 0, 4);
  spdlog::debug("unseen");
  spdlog::info("loading {}", "model");
  spdlog::warn("hot");
  spdlog::error("broken");
  EXPECT_EQ(screen.text(), "loading model\nwarning: hot\nerror: broken\n");
}

TEST_F(Logging, OtherRanksReportErrorsOnlyAndByName) {
  Recorded screen(0);
  start_logging(screen.console(), 3, 4);
  spdlog::info("loading");
  spdlog::warn("hot");
  spdlog::error("broken");
  EXPECT_EQ(screen.text(), "rank 3: error: broken\n");
}

}  // namespace
}  // namespace autoglm
