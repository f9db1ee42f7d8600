#include "sharding/launch.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace autoglm {
namespace {

class RankFromEnvironment : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_app_num",
                             "OMPI_APP_CTX_NUM_PROCS", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS"})
      unsetenv(name);
  }
  void TearDown() override { SetUp(); }
};

TEST_F(RankFromEnvironment, AloneWithoutALauncher) {
  const RankEnvironment alone = rank_from_environment();
  EXPECT_EQ(alone.rank, 0);
  EXPECT_EQ(alone.world_size, 1);
  EXPECT_TRUE(alone.speaks_for_command_line);
}

TEST_F(RankFromEnvironment, RankZeroSpeaksForAll) {
  setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
  setenv("OMPI_APP_CTX_NUM_PROCS", "4", 1);
  setenv("OMPI_MCA_orte_app_num", "0", 1);
  setenv("OMPI_COMM_WORLD_RANK", "0", 1);
  EXPECT_TRUE(rank_from_environment().speaks_for_command_line);
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  EXPECT_EQ(rank_from_environment().rank, 3);
  EXPECT_EQ(rank_from_environment().world_size, 4);
  EXPECT_FALSE(rank_from_environment().speaks_for_command_line);
}

TEST_F(RankFromEnvironment, EachCommandLineOfMpirunHasASpeaker) {
  setenv("OMPI_COMM_WORLD_SIZE", "5", 1);
  setenv("OMPI_APP_CTX_NUM_PROCS", "2 3", 1);
  setenv("OMPI_MCA_orte_app_num", "1", 1);
  setenv("OMPI_COMM_WORLD_RANK", "2", 1);
  EXPECT_TRUE(rank_from_environment().speaks_for_command_line);
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  EXPECT_FALSE(rank_from_environment().speaks_for_command_line);
}

TEST_F(RankFromEnvironment, ReadsOtherLaunchersAndIgnoresNonsense) {
  setenv("OMPI_COMM_WORLD_RANK", "many", 1);
  setenv("PMI_RANK", "2", 1);
  setenv("PMI_SIZE", "3", 1);
  EXPECT_EQ(rank_from_environment().rank, 2);
  EXPECT_EQ(rank_from_environment().world_size, 3);
}

}  // namespace
}  // namespace autoglm
