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

TEST(Launch, RanksOfMvapichAreNotAlone) {
  EXPECT_EQ(detect({{"MV2_COMM_WORLD_SIZE", "2"}})->num_ranks, 2);
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

// The refusal of a launcher for PyTorch; empty where it is let pass.
std::string refused(const std::map<std::string, std::string>& environment) {
  try {
    check_launcher([&](const char* name) -> const char* {
      const auto found = environment.find(name);
      return found == environment.end() ? nullptr : found->second.c_str();
    });
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    return error.what();
  }
}

TEST(TorchLaunch, IsNamedWithWhatToTypeInstead) {
  EXPECT_EQ(
      refused({{"WORLD_SIZE", "2"},
               {"RANK", "0"},
               {"LOCAL_RANK", "0"},
               {"LOCAL_WORLD_SIZE", "2"},
               {"TORCHELASTIC_RUN_ID", "none"}}),
      "WORLD_SIZE=2 and RANK=0 say that torchrun has started this process as one of 2; autoglm-train takes "
      "its ranks from MPI, and each would train alone: start it with mpirun -np 2 autoglm-train ... instead");
  const std::string accelerate = refused({{"WORLD_SIZE", "4"},
                                          {"RANK", "3"},
                                          {"LOCAL_RANK", "3"},
                                          {"TORCHELASTIC_RUN_ID", "x"},
                                          {"ACCELERATE_MIXED_PRECISION", "bf16"}});
  EXPECT_THAT(accelerate, ::testing::HasSubstr("accelerate launch has started"));
  const std::string deepspeed = refused(
      {{"WORLD_SIZE", "16"}, {"RANK", "9"}, {"LOCAL_RANK", "1"}, {"CROSS_SIZE", "2"}, {"LOCAL_SIZE", "8"}});
  EXPECT_THAT(deepspeed, ::testing::HasSubstr("deepspeed has started"));
  EXPECT_THAT(deepspeed,
              ::testing::HasSubstr("mpirun -np 16 --hostfile FILE --map-by ppr:8:node autoglm-train"));
  EXPECT_THAT(refused({{"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}}),
              ::testing::HasSubstr("torchrun, accelerate or"));
}

TEST(TorchLaunch, InsideOfASlurmJobIsFoundToo) {
  EXPECT_NE(
      refused({{"SLURM_NTASKS", "1"}, {"WORLD_SIZE", "8"}, {"RANK", "5"}, {"TORCHELASTIC_RUN_ID", "7"}}), "");
  EXPECT_NE(
      refused({{"SLURM_NTASKS", "8"}, {"WORLD_SIZE", "8"}, {"RANK", "5"}, {"TORCHELASTIC_RUN_ID", "7"}}), "");
}

TEST(TorchLaunch, OfOneProcessOrOfNoneIsLetPass) {
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused({{"WORLD_SIZE", "1"}, {"RANK", "0"}, {"LOCAL_RANK", "0"}, {"TORCHELASTIC_RUN_ID", "x"}}),
            "");
  EXPECT_EQ(refused({{"WORLD_SIZE", "8"}}), "");  // left over in a shell
  EXPECT_EQ(refused({{"WORLD_SIZE", "many"}, {"RANK", "0"}}), "");
}

TEST(TorchLaunch, VariablesBesideRealRanksAreLetPass) {
  // Set by a script for programs that ask for them, or by a cluster for every container.
  EXPECT_EQ(refused({{"OMPI_COMM_WORLD_SIZE", "16"}, {"WORLD_SIZE", "2"}, {"RANK", "1"}}), "");
  EXPECT_EQ(refused({{"SLURM_NTASKS", "8"}, {"WORLD_SIZE", "8"}, {"RANK", "3"}}), "");
}

}  // namespace
}  // namespace autoglm
