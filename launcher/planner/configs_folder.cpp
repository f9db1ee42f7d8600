#include "launcher/planner/configs_folder.h"

#include "base/error.h"

namespace autoglm {

std::filesystem::path configs_folder_above(const std::filesystem::path& folder) {
  for (std::filesystem::path above = folder; above.has_relative_path(); above = above.parent_path()) {
    const std::filesystem::path found = above.parent_path() / "share" / "autoglm-train" / "configs";
    std::error_code ignored;
    if (std::filesystem::is_directory(found, ignored)) return found;
  }
  fail(
      ExitCode::missing_input,
      "there is no share/autoglm-train/configs above {}, where this program lies: install it again, with all "
      "of its folders",
      folder.string());
}

std::filesystem::path configs_folder() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    fail(ExitCode::missing_input, "cannot tell where this program lies (/proc/self/exe): {}",
         error.message());
  return configs_folder_above(program.parent_path());
}

}  // namespace autoglm
