#include "launcher/report/run_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/matches_pattern.h"

namespace autoglm {
namespace {

TEST(RunRecord, SaysWhatWasRunAndHowItEnded) {
  RunRecord record;
  record.run = "0123456789abcdef0123456789abcdef";
  record.options = {{"model", "m"}, {"steps", 3}};
  record.inputs = {{"data", "89abcdef"}};
  record.plan = {{"device", "cpu"}};
  record.versions = {"2.11.0", "Open MPI 4.1.4", false};
  record.ranks = {{{"rank", 0}, {"host", "a"}}, {{"rank", 1}, {"host", "b"}}};
  record.started = std::chrono::system_clock::time_point(std::chrono::seconds(1'772'368'496));
  const nlohmann::ordered_json running = to_json(record);
  EXPECT_EQ(running["started_at"], "2026-03-01T12:34:56Z");
  EXPECT_TRUE(running.at("ended_at").is_null());
  EXPECT_EQ(running.at("state"), "running");
  EXPECT_TRUE(running.at("result").is_null());
  EXPECT_EQ(running["options"].dump(), R"({"model":"m","steps":3})");
  EXPECT_EQ(running["plan"]["device"], "cpu");
  EXPECT_EQ(running["ranks"].size(), 2u);
  EXPECT_EQ(running["versions"]["libtorch"], "2.11.0");
  EXPECT_EQ(running["versions"]["mpi"], "Open MPI 4.1.4");
  EXPECT_EQ(running["versions"]["cuda"], false);
  EXPECT_THAT(running["versions"]["autoglm-train"].get<std::string>(), MatchesPattern("[0-9.]+"));

  record.ended = record.started + std::chrono::seconds(4);
  record.result = {{"exit_code", 0}};
  const nlohmann::ordered_json ended = to_json(record);
  EXPECT_EQ(ended["ended_at"], "2026-03-01T12:35:00Z");
  EXPECT_EQ(ended["result"]["exit_code"], 0);
  std::vector<std::string> keys;
  for (const auto& [key, value] : ended.items()) keys.push_back(key);
  EXPECT_EQ(ended["run"], record.run);
  EXPECT_THAT(keys, testing::ElementsAre("run", "options", "inputs", "plan", "versions", "ranks",
                                         "started_at", "ended_at", "state", "result"));
}

}  // namespace
}  // namespace autoglm
