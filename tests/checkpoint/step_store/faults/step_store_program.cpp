// Saves and checks toy checkpoints, for the tests that let files go wrong under it:
//
//   step_store_program save DIRECTORY RANKS KEEP MIB STEP...
//     saves these steps, one after the other, by RANKS processes, and rotates after each. Prints "committed STEP" when a
//     checkpoint is promised to be there, "failed STEP" when there was an error, and "broken ..." when an error left
//     something that it should not. MIB: about so large, 0 for a few hundred bytes. Exit code 76 when a rank died.
//
//   step_store_program check
//     reads lines "DIRECTORY KEEP STEP": asserts that all checkpoints there are whole, and that of STEP (-1: none) among
//     them, then that a job that comes later can clean up, save and rotate. Prints what is wrong.
//
// Checkpoint 0 is none of this run, and not looked at.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/checkpoint/step_store/toy_states.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// In one call, which the shim writes into its journal.
void say(const std::string& text) {
  const std::string line = text + "\n";
  if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(1);
}

testing::ToyStates states_of(int mib) {
  testing::ToyStates states;
  if (mib > 0) states.parameters[0].shape = {std::int64_t{mib} << 20, 1};
  if (mib > 0) states.kinds.assign({{"moment1", DType::bfloat16}});
  return states;
}

// What is wrong with the checkpoints in a folder; nothing where they are whole, and `step` is there.
std::string find_broken(const testing::ToyStates& states, const fs::path& directory, std::int64_t step) {
  bool found = step < 0;
  for (const StepFolder& one : list_step_folders(directory)) {
    if (one.step == 0) continue;
    try {
      if (!states.is_whole(one.path, one.step)) return one.path.string() + ": holds other bytes";
    } catch (const Error& error) {
      if (error.code() == ExitCode::io_failed) throw;
      return error.what();
    }
    found = found || one.step == step;
  }
  return found ? "" : fmt::format("{}: step {} is lost", directory.string(), step);
}

// A name in the folder that a save of this run left, and that is no checkpoint.
std::string find_leftover(const fs::path& directory) {
  std::set<fs::path> checkpoints;
  for (const StepFolder& one : list_step_folders(directory)) checkpoints.insert(one.path);
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name.find(testing::kToyRun) != std::string::npos || name.starts_with("latest.");
    if (ours && !checkpoints.contains(entry.path())) return entry.path().string();
  }
  return "";
}

// A rank's two pipes to rank 0; lines of text go through.
struct Link {
  FILE* in = nullptr;
  FILE* out = nullptr;

  bool send(const std::string& line) const {
    return std::fputs((line + "\n").c_str(), out) >= 0 && std::fflush(out) == 0;
  }
  bool receive(std::string& line) const {
    line.clear();
    for (int c = std::fgetc(in); c != '\n'; c = std::fgetc(in)) {
      if (c == EOF) return false;
      line += static_cast<char>(c);
    }
    return true;
  }
};

std::string save_part(const testing::ToyStates& states, const StepStore& store, std::int64_t step, int rank,
                      int ranks) {
  try {
    const StateFileRecord record = states.save(store, step, rank, ranks);
    std::string line = fmt::format("{} {}", record.name, record.bytes);
    for (const std::uint32_t sum : record.checksums) line += fmt::format(" {}", sum);
    return line;
  } catch (const Error& error) {
    return std::string("! ") + error.what();
  }
}

StateFileRecord parse_record(const std::string& line) {
  StateFileRecord record;
  std::istringstream text(line);
  text >> record.name >> record.bytes;
  for (std::uint32_t sum = 0; text >> sum;) record.checksums.push_back(sum);
  return record;
}

class Job {
 public:
  Job(const fs::path& directory, int ranks, int keep, int mib)
      : states_(states_of(mib)), store_(directory, states_.run), ranks_(ranks), keep_(keep) {}

  int run(const std::vector<std::int64_t>& steps) {
    try {
      create_folders(store_.directory());
      store_.remove_leftovers();
    } catch (const Error& error) {
      say(std::string("not begun: ") + error.what());
      return 0;
    }
    fork_ranks(steps);
    for (const std::int64_t step : steps) {
      std::vector<std::string> lines = {save_part(states_, store_, step, 0, ranks_)};
      for (const Link& link : links_)
        if (!link.receive(lines.emplace_back())) return 76;
      finish(step, lines);
      for (const Link& link : links_)
        if (!link.send("go on")) return 76;
    }
    for (const Link& link : links_) std::fclose(link.out);
    while (::wait(nullptr) > 0) {
    }
    return broken_ ? 1 : 0;
  }

 private:
  void fork_ranks(const std::vector<std::int64_t>& steps) {
    for (int rank = 1; rank < ranks_; ++rank) {
      int up[2], down[2];
      AUTOGLM_CHECK(::pipe(up) == 0 && ::pipe(down) == 0);
      if (::fork() == 0) {
        ::setenv("FAULTS_RANK", std::to_string(rank).c_str(), 1);
        // So that they end when rank 0 does.
        for (const Link& link : links_) ::close(::fileno(link.in)), ::close(::fileno(link.out));
        ::close(up[0]), ::close(down[1]);
        follow({::fdopen(down[0], "r"), ::fdopen(up[1], "w")}, steps, rank);
        std::_Exit(0);
      }
      ::close(up[1]), ::close(down[0]);
      links_.push_back({::fdopen(up[0], "r"), ::fdopen(down[1], "w")});
    }
  }

  void follow(const Link& link, const std::vector<std::int64_t>& steps, int rank) const {
    std::string line;
    for (const std::int64_t step : steps)
      if (!link.send(save_part(states_, store_, step, rank, ranks_)) || !link.receive(line)) return;
  }

  // Rank 0 has heard of all.
  void finish(std::int64_t step, const std::vector<std::string>& lines) {
    std::string wrong;
    std::vector<StateFileRecord> files;
    for (const std::string& line : lines) {
      if (line.starts_with("! ")) wrong = line;
      files.push_back(parse_record(line));
    }
    try {
      if (!wrong.empty()) fail(ExitCode::io_failed, "{}", wrong);
      store_.commit(states_.manifest_of(step, std::move(files)));
    } catch (const Error& error) {
      store_.discard(step);
      return say_failed(fmt::format("failed {}: {}", step, error.what()));
    }
    say(fmt::format("committed {}", step));
    committed_ = step;
    try {
      store_.rotate(step, keep_, {});
    } catch (const Error& error) {
      say(fmt::format("not rotated: {}", error.what()));
    }
  }

  void say_failed(const std::string& sentence) {
    say(sentence);
    try {
      const std::string broken = find_broken(states_, store_.directory(), committed_);
      const std::string left = find_leftover(store_.directory());
      if (!broken.empty()) say("broken " + broken);
      if (!left.empty()) say("left " + left);
      broken_ = broken_ || !broken.empty();
    } catch (const std::exception& error) {
      say(std::string("not checked: ") + error.what());  // the disk is still broken
    }
  }

  testing::ToyStates states_;
  StepStore store_;
  int ranks_, keep_;
  std::vector<Link> links_;
  std::int64_t committed_ = -1;
  bool broken_ = false;
};

std::string check(const fs::path& directory, int keep, std::int64_t step) {
  const testing::ToyStates states;
  try {
    if (std::string wrong = find_broken(states, directory, step); !wrong.empty()) return wrong;
    create_folders(directory);
    const StepStore store(directory, states.run);
    store.remove_leftovers();
    if (std::string wrong = find_broken(states, directory, step); !wrong.empty())
      return wrong + ", after what was left was removed";
    const auto before = list_step_folders(directory);
    const std::int64_t next = before.empty() ? 1 : before.front().step + 1;
    states.save_whole(store, next, 2);
    store.rotate(next, keep, {});
    if (std::string wrong = find_broken(states, directory, next); !wrong.empty())
      return wrong + ", after a later save";
    int left = 0;
    for (const StepFolder& one : list_step_folders(directory)) left += one.step != 0 ? 1 : 0;
    if (left > keep)
      return fmt::format("{}: has {} checkpoints, and should keep {}", directory.string(), left, keep);
    const std::string leftover = find_leftover(directory);
    return leftover.empty() ? "" : leftover + ": is left";
  } catch (const Error& error) {
    return fmt::format("{}: {}", directory.string(), error.what());
  }
}

int check_all() {
  bool good = true;
  std::string directory;
  int keep = 0;
  for (std::int64_t step = 0; std::cin >> directory >> keep >> step;) {
    const std::string wrong = check(directory, keep, step);
    if (!wrong.empty()) say(directory + "\t" + wrong);
    good = good && wrong.empty();
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace autoglm

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  std::signal(SIGPIPE, SIG_IGN);
  if (words.size() == 1 && words[0] == "check") return autoglm::check_all();
  if (words.size() < 6 || words[0] != "save") return 64;
  std::vector<std::int64_t> steps;
  for (std::size_t i = 5; i < words.size(); ++i) steps.push_back(std::stoll(words[i]));
  return autoglm::Job(words[1], std::stoi(words[2]), std::stoi(words[3]), std::stoi(words[4])).run(steps);
}
