#include "launcher/report/metrics.h"

#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

StepMetrics some_step() {
  return {.report = {12, 0.35, 1.7321, 2.9e-4, 0.83, 4096, 1024, 9.9},
          .largest = {2'040'109'465, 3'000'000'000},
          .predicted_device_peak_bytes = 2'050'000'000,
          .tokens_per_second = 412.5};
}

std::vector<nlohmann::ordered_json> lines_of(const std::filesystem::path& path) {
  const std::string text = read_all(path);
  EXPECT_TRUE(text.empty() || text.back() == '\n');
  std::vector<nlohmann::ordered_json> objects;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) objects.push_back(nlohmann::ordered_json::parse(line));
  return objects;
}

std::vector<std::string> keys_of(const nlohmann::ordered_json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST(MetricsWriter, WritesOneObjectPerStepAndEvaluation) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path() / "metrics.jsonl");
  writer.evaluation(EvaluationMetrics{0, 1.72});
  ASSERT_EQ(lines_of(folder.path() / "metrics.jsonl").size(), 1u) << "each line is complete at once";
  writer.step(some_step());
  const auto lines = lines_of(folder.path() / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].dump(), R"({"step":0,"validation_loss":1.72})");
  EXPECT_THAT(
      keys_of(lines[1]),
      testing::ElementsAre("step", "epoch", "loss", "learning_rate", "gradient_norm", "tokens",
                           "supervised_tokens", "step_seconds", "tokens_per_second", "device_peak_bytes",
                           "host_peak_bytes", "predicted_device_peak_bytes", "exposed_seconds"));
  EXPECT_EQ(lines[1]["step"], 12);
  EXPECT_EQ(lines[1]["loss"], 1.7321);
  EXPECT_EQ(lines[1]["device_peak_bytes"], 2'040'109'465);
  EXPECT_EQ(lines[1]["predicted_device_peak_bytes"], 2'050'000'000);
}

TEST(MetricsWriter, WritesNullForWhatIsNotThere) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path() / "metrics.jsonl");
  StepMetrics metrics = some_step();
  metrics.report.loss.reset();
  metrics.report.gradient_norm.reset();
  metrics.predicted_device_peak_bytes.reset();
  writer.step(metrics);
  metrics.report.loss = std::nan("");
  writer.step(metrics);
  const auto lines = lines_of(folder.path() / "metrics.jsonl");
  for (const char* key : {"loss", "gradient_norm", "predicted_device_peak_bytes"})
    EXPECT_TRUE(lines[0].at(key).is_null());
  EXPECT_TRUE(lines[1].at("loss").is_null());
}

TEST(MetricsWriter, DoublesReadBackExactly) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path() / "metrics.jsonl");
  StepMetrics metrics = some_step();
  metrics.report.loss = 1.0 / 3;
  writer.step(metrics);
  EXPECT_EQ(lines_of(folder.path() / "metrics.jsonl")[0]["loss"].get<double>(), 1.0 / 3);
}

TEST(MetricsWriter, NeverWritesOverAnotherRunsFile) {
  const TemporaryFolder folder;
  folder.write("metrics.jsonl", "earlier\n");
  EXPECT_THAT(error_of(ExitCode::cannot_create, [&] { MetricsWriter(folder.path() / "metrics.jsonl"); }),
              testing::HasSubstr("metrics.jsonl: cannot be created"));
  EXPECT_EQ(read_all(folder.path() / "metrics.jsonl"), "earlier\n");
}

// A limit on the size of files stands for a full disk: lines wait until there is room, and none is cut.
TEST(MetricsWriter, AFullDiskKeepsLinesBack) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  MetricsWriter writer(path);
  writer.evaluation(EvaluationMetrics{0, 1.5});
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous_handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{40, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  writer.step(some_step());
  writer.step(some_step());
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, previous_handler);
  EXPECT_EQ(lines_of(path).size(), 1u);
  writer.evaluation(EvaluationMetrics{12, 1.25});
  EXPECT_EQ(lines_of(path).size(), 4u);
}

TEST(MetricsWriter, ARemovedFolderIsMadeAgain) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run" / "metrics.jsonl";
  std::filesystem::create_directory(path.parent_path());
  MetricsWriter writer(path);
  writer.evaluation(EvaluationMetrics{0, 1.5});
  std::filesystem::remove_all(path.parent_path());
  writer.step(some_step());
  EXPECT_EQ(lines_of(path).size(), 2u);
}

}  // namespace
}  // namespace autoglm
