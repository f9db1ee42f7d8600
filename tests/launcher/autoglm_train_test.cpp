// The program from outside: what it prints where, and what it returns.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/launcher/matches_pattern.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Outcome {
  int code;
  std::string out, err;
};

// Runs a shell command with its outputs apart.
Outcome run_shell(const std::string& command) {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string(), err = (folder.path() / "err").string();
  const int status = std::system(fmt::format("( {} ) >{} 2>{}", command, out, err).c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_all(out), read_all(err)};
}

Outcome run(const std::string& arguments) {
  return run_shell(AUTOGLM_TRAIN_PROGRAM " " + arguments);
}

const std::string kRequired = " --model m --data d.jsonl --output o ";

TEST(AutoglmTrain, HelpAndVersionGoToStandardOutput) {
  const Outcome help = run("--help");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, StartsWith("Usage: mpirun -np RANKS autoglm-train"));
  EXPECT_EQ(help.err, "");
  const Outcome version = run("--version");
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(
      version.out,
      MatchesPattern("autoglm-train [0-9.]+ \\(LibTorch 2\\.[0-9.]+, [A-Za-z]+ build, CUDA: (yes|no)\\)\n"));
}

TEST(AutoglmTrain, AWrongCommandLineIsOneSentenceAnd64) {
  const Outcome unknown = run(kRequired + "--lerning-rate 1e-4");
  EXPECT_EQ(unknown.code, 64);
  EXPECT_EQ(unknown.err, "autoglm-train: unknown option --lerning-rate; did you mean --learning-rate?\n");
  EXPECT_EQ(unknown.out, "");
  EXPECT_EQ(run("").err,
            "autoglm-train: --model DIR, --data FILE... and --output DIR are missing; autoglm-train --help "
            "lists every option\n");
}

TEST(AutoglmTrain, OptionsReachTheTraining) {
  const Outcome outcome = run(kRequired + "--steps 3 --sample 'Who are you?'");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "warning: only an echo\n");
  const nlohmann::json options = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(options["steps"], 3);
  EXPECT_EQ(options["sample"][0], "Who are you?");
}

TEST(AutoglmTrain, EveryFailureHasItsCodeAndSentence) {
  const Outcome data = run(kRequired + "--learning-rate 0.65");
  EXPECT_EQ(data.code, 65);
  EXPECT_EQ(data.err, "autoglm-train: d.jsonl:3: not a JSON object\n");
  const Outcome bug = run(kRequired + "--learning-rate 0.70");
  EXPECT_EQ(bug.code, 70);
  EXPECT_EQ(bug.err, "autoglm-train: internal error: lost count\n");
  const Outcome memory = run(kRequired + "--learning-rate 0.78");
  EXPECT_EQ(memory.code, 78);
  EXPECT_EQ(memory.err, "autoglm-train: out of host memory\n");
  const Outcome limited =
      run_shell("ulimit -v 8000000; " AUTOGLM_TRAIN_PROGRAM " " + kRequired + "--learning-rate 0.78");
  EXPECT_EQ(limited.code, 78);
  EXPECT_THAT(limited.err, HasSubstr("out of host memory, or of what ulimit -v 8000000 allows: raise it"));
  const Outcome config = run(kRequired + "--config /nonexistent.ini");
  EXPECT_EQ(config.code, 66);
  EXPECT_THAT(config.err, HasSubstr("cannot read /nonexistent.ini"));
}

TEST(AutoglmTrain, AFullStandardOutputIsNoticed) {
  EXPECT_EQ(run_shell("{ " AUTOGLM_TRAIN_PROGRAM " --help >/dev/full; }").code, 74);
}

std::string mpirun(const std::string& what) {
  return "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe " + what;
}

std::ptrdiff_t occurrences(const std::string& text, const std::string& part) {
  std::ptrdiff_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(AutoglmTrain, RanksReportAWrongCommandLineOnce) {
  const Outcome outcome = run_shell(mpirun("-np 3 " AUTOGLM_TRAIN_PROGRAM " --stesp 3"));
  EXPECT_EQ(outcome.code, 64);
  EXPECT_EQ(occurrences(outcome.err, "unknown option --stesp; did you mean --steps?\n"), 1) << outcome.err;
  EXPECT_EQ(occurrences(run_shell(mpirun("-np 3 " AUTOGLM_TRAIN_PROGRAM " --help")).out, "Usage:"), 1);
}

TEST(AutoglmTrain, AWrongSecondCommandLineOfMpirunIsReportedToo) {
  const Outcome outcome = run_shell(
      mpirun("-np 1 " AUTOGLM_TRAIN_PROGRAM + kRequired + " : -np 2 " AUTOGLM_TRAIN_PROGRAM " --stesp 3"));
  EXPECT_EQ(occurrences(outcome.err, "autoglm-train: rank 1: unknown option --stesp"), 1) << outcome.err;
}

}  // namespace
}  // namespace autoglm
