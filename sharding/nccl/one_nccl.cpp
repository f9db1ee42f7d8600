#include "sharding/nccl/one_nccl.h"

#include <fmt/ranges.h>
#include <link.h>

#include <algorithm>
#include <string_view>

namespace autoglm {
namespace {

// 22809 is 2.28.9.
std::string version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace

std::vector<std::string> loaded_nccl_libraries() {
  std::vector<std::string> libraries;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* found) {
        const std::string_view path = info->dlpi_name != nullptr ? info->dlpi_name : "";
        if (path.substr(path.find_last_of('/') + 1).starts_with("libnccl.so")) {
          static_cast<std::vector<std::string>*>(found)->emplace_back(path);
        }
        return 0;
      },
      &libraries);
  std::sort(libraries.begin(), libraries.end());
  return libraries;
}

void check_one_nccl(const std::vector<std::string>& libraries, int version, int header_version) {
  if (libraries.size() != 1) {
    fail(ExitCode::unavailable,
         "{} copies of NCCL are loaded instead of one [{}]: take all but torch's out of LD_LIBRARY_PATH and "
         "LD_PRELOAD",
         libraries.size(), fmt::join(libraries, ", "));
  }
  if (version / 10000 != header_version / 10000 || version < header_version) {
    fail(ExitCode::unavailable,
         "{} is NCCL {}, but this program needs {} or newer: install the one that torch asks for",
         libraries.front(), version_text(version), version_text(header_version));
  }
}

void check_one_nccl(const NcclFunctions& nccl) {
  int version = 0;
  const ncclResult_t result = nccl.get_version(&version);
  if (result != ncclSuccess) fail(nccl_exit_code(result), "{}", nccl_error_text(nccl, result, nullptr));
  check_one_nccl(loaded_nccl_libraries(), version, NCCL_VERSION_CODE);
}

}  // namespace autoglm
