#include "launcher/planner/configs_folder.h"

#include <gtest/gtest.h>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

TEST(ConfigsFolder, IsThatOfTheBuildTree) {
  EXPECT_TRUE(std::filesystem::exists(configs_folder() / "hardware" / "a100-40gb.json"));
}

TEST(ConfigsFolder, IsTheNearestAboveTheProgramAndMovesWithIt) {
  const TemporaryFolder temporary;
  const std::filesystem::path outer = temporary.path() / "share" / "autoglm-train" / "configs";
  const std::filesystem::path tree = temporary.path() / "tree";
  std::filesystem::create_directories(outer);
  std::filesystem::create_directories(tree / "bin");
  EXPECT_EQ(configs_folder_above(tree / "bin"), outer);
  std::filesystem::create_directories(tree / "share" / "autoglm-train" / "configs");
  EXPECT_EQ(configs_folder_above(tree / "bin"), tree / "share" / "autoglm-train" / "configs");
  const std::filesystem::path moved = temporary.path() / "moved";
  std::filesystem::rename(tree, moved);
  EXPECT_EQ(configs_folder_above(moved / "bin"), moved / "share" / "autoglm-train" / "configs");
}

TEST(ConfigsFolder, NamesTheProgramsFolderWhenThereIsNone) {
  const TemporaryFolder temporary;
  const std::string message =
      error_of(ExitCode::missing_input, [&] { configs_folder_above(temporary.path() / "bin"); });
  EXPECT_THAT(message, testing::HasSubstr((temporary.path() / "bin").string()));
}

}  // namespace
}  // namespace autoglm
