#include "launcher/report/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

using testing::HasSubstr;
using testing::Not;

StepMetrics at_step(std::int64_t step) {
  StepMetrics metrics;
  metrics.report.step = step;
  metrics.report.epoch = 0.35;
  metrics.report.loss = 1.73208;
  metrics.report.learning_rate = 2.9e-4;
  metrics.report.gradient_norm = 0.834;
  metrics.report.tokens = 1000;
  metrics.report.seconds = 2;
  metrics.tokens_per_second = 412.3;
  metrics.largest.device_peak_bytes = 2'040'109'465;
  return metrics;
}

TEST(FormatStep, ShowsEverythingThatFits) {
  EXPECT_EQ(format_step(at_step(12), 340, 185, 0),
            "step 12/340  epoch 0.35  loss 1.7321  lr 2.9e-04  grad 0.83  412 tok/s  1.90 GiB  3m05s left");
}

TEST(FormatStep, LeavesPartsOutWhenTheLineIsNarrow) {
  const std::string whole = format_step(at_step(12), 340, 185, 0);
  EXPECT_EQ(format_step(at_step(12), 340, 185, static_cast<int>(whole.size())), whole);
  EXPECT_EQ(format_step(at_step(12), 340, 185, static_cast<int>(whole.size()) - 1),
            "step 12/340  epoch 0.35  loss 1.7321  lr 2.9e-04  412 tok/s  1.90 GiB  3m05s left");
  EXPECT_EQ(format_step(at_step(12), 340, 185, 50), "step 12/340  loss 1.7321  412 tok/s  3m05s left");
  EXPECT_EQ(format_step(at_step(12), 340, 185, 30), "step 12/340  loss 1.7321");
  EXPECT_EQ(format_step(at_step(12), 340, 185, 3), "step 12/340  loss 1.7321");
  for (int columns = 24; columns < 110; ++columns)
    EXPECT_LE(format_step(at_step(12), 340, 185, columns).size(), static_cast<std::size_t>(columns));
}

TEST(FormatStep, NeverWaitsForMoreThanTheStep) {
  StepMetrics metrics = at_step(12);
  metrics.largest.exposed_seconds = 0.5;
  EXPECT_THAT(format_step(metrics, 340, 185, 0), HasSubstr("waits 25.0 %"));
  metrics.largest.exposed_seconds = 2.1;
  EXPECT_THAT(format_step(metrics, 340, 185, 0), HasSubstr("waits 100.0 %"));
}

TEST(FormatStep, SaysWhenThereIsNoLoss) {
  StepMetrics metrics = at_step(1);
  metrics.report.loss.reset();
  metrics.report.gradient_norm.reset();
  EXPECT_EQ(format_step(metrics, 2, std::nullopt, 0),
            "step 1/2  epoch 0.35  loss none  lr 2.9e-04  412 tok/s  1.90 GiB");
}

TEST(FormatStep, ShortensLargeRates) {
  StepMetrics metrics = at_step(1);
  metrics.tokens_per_second = 123'456;
  EXPECT_THAT(format_step(metrics, 2, std::nullopt, 0), HasSubstr("  123.5k tok/s  "));
}

TEST(FormatEvaluation, ComparesWithBeforeTraining) {
  EXPECT_EQ(format_evaluation({0, 1.72009}, 340, std::nullopt), "step 0/340  validation loss 1.7201");
  EXPECT_EQ(format_evaluation({40, 1.6312}, 340, 1.72009),
            "step 40/340  validation loss 1.6312 (1.7201 before training)");
}

TEST(FormatSummary, SaysWhatChangedAndWhatItCost) {
  RunSummary summary{340, 1'390'000, 725, 1.7321, 1.631, 1.72, 1.63, 2'040'109'465, 2'050'000'000, "out"};
  EXPECT_EQ(format_summary(summary),
            "trained 340 steps in 12m05s: 1.39 million tokens, 1917 tok/s\n"
            "training loss    1.7321 -> 1.6310\n"
            "validation loss  1.7200 -> 1.6300\n"
            "peak memory      1.90 GiB (1.91 GiB predicted)\n"
            "model written to out");
  summary.first_validation_loss.reset();
  summary.predicted_device_peak_bytes.reset();
  EXPECT_THAT(format_summary(summary), Not(HasSubstr("validation")));
  EXPECT_THAT(format_summary(summary), Not(HasSubstr("predicted")));
}

TEST(TimeLeft, LeavesTheWarmUpStepOut) {
  TimeLeft left;
  EXPECT_EQ(left.estimate(10), std::nullopt);
  left.add(30);
  EXPECT_DOUBLE_EQ(*left.estimate(10), 300);
  left.add(2);
  EXPECT_DOUBLE_EQ(*left.estimate(10), 20);
  left.add(4);
  EXPECT_DOUBLE_EQ(*left.estimate(10), 30);
  EXPECT_EQ(left.estimate(0), std::nullopt);
}

TEST(TimeLeft, FollowsAChange) {
  TimeLeft left;
  for (int i = 0; i < 100; ++i) left.add(1);
  for (int i = 0; i < 50; ++i) left.add(3);
  EXPECT_NEAR(*left.estimate(1), 3, 0.05);
}

// What a training of `num_steps` steps shows.
std::string shown(int columns, std::int64_t num_steps, std::int64_t log_every) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "screen";
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  {
    Console console(descriptor, [columns] { return columns; });
    Progress progress(console, num_steps, log_every);
    progress.evaluation({0, 1.8});
    for (std::int64_t step = 1; step <= num_steps; ++step) progress.step(at_step(step));
    progress.evaluation({num_steps, 1.6});
    progress.sample("Who are you?", "I am\nNova.\x1b[2J");
  }
  close(descriptor);
  return read_all(path);
}

TEST(Progress, WithoutATerminalPrintsEveryNthTheFirstAndTheLast) {
  std::istringstream lines(shown(0, 12, 5));
  std::vector<std::string> heads;
  for (std::string line; std::getline(lines, line);) heads.push_back(line.substr(0, line.find("  ", 2)));
  EXPECT_THAT(heads, testing::ElementsAre("step 0/12", "step 1/12", "step 5/12", "step 10/12", "step 12/12",
                                          "step 12/12", "  > Who are you?", "  I am", "  Nova.?[2J"));
}

TEST(Progress, OnATerminalRedrawsOneLineAndLeavesItClean) {
  const std::string text = shown(60, 3, 1);
  EXPECT_THAT(text, HasSubstr("\r\x1b[Kstep 1/3  "));
  EXPECT_THAT(text, HasSubstr("\r\x1b[Kstep 2/3  "));
  EXPECT_THAT(text, HasSubstr("step 3/3  validation loss 1.6000 (1.8000 before training)\nstep 3/3  "));
  EXPECT_TRUE(text.ends_with("\r\x1b[K"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 5);
}

}  // namespace
}  // namespace autoglm
