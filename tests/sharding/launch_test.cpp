#include "sharding/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace autoglm {
namespace {

std::optional<Launch> detect(const std::map<std::string, std::string>& environment) {
  return detect_launch([&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

TEST(Launch, IsNoneOnAPlainCommandLine) {
  EXPECT_FALSE(detect({{"HOME", "/root"}}));
  EXPECT_NO_THROW(check_launch(std::nullopt, 1));
}

TEST(Launch, MpirunCountsMoreThanTheSlurmJobAroundIt) {
  const auto launch =
      detect({{"OMPI_COMM_WORLD_SIZE", "4"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_NTASKS", "8"}});
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->variable, "OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(launch->num_ranks, 4);
  EXPECT_NO_THROW(check_launch(launch, 4));
}

TEST(Launch, AStepCountsMoreThanItsJob) {
  EXPECT_EQ(detect({{"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_NTASKS", "8"}})->num_ranks, 2);
  EXPECT_EQ(detect({{"SLURM_NTASKS", "8"}})->num_ranks, 8);
}

TEST(Launch, IgnoresWhatIsNotANumber) {
  EXPECT_FALSE(detect({{"SLURM_NTASKS", "2(x2)"}, {"PMI_SIZE", ""}, {"OMPI_COMM_WORLD_SIZE", "0"}}));
}

TEST(Launch, RefusesRanksThatMpiDoesNotSee) {
  try {
    check_launch(Launch{"SLURM_NTASKS", 4}, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("SLURM_NTASKS=4 promises 4 ranks, but MPI finds 1"));
  }
}

}  // namespace
}  // namespace autoglm
