#include "launcher/export/found_checkpoints.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/output_inspection.h"
#include "checkpoint/step_store/step_store.h"

namespace autoglm {

namespace fs = std::filesystem;

namespace {

// Without the slash at its end.
fs::path plain(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

// Whole or not: by its name too, so that one without a manifest is not taken for a folder of others.
bool is_checkpoint(const fs::path& path) {
  if (name_exists(path / kManifestName)) return true;
  constexpr std::string_view kPrefix = "checkpoint-";
  const std::string name = plain(path).filename().string();
  const bool numbered =
      name.starts_with(kPrefix) && name.find_first_of("0123456789", kPrefix.size()) == kPrefix.size();
  return numbered && list_step_folders(path).empty();
}

}  // namespace

fs::path checkpoint_folder_of(const fs::path& path) {
  if (is_checkpoint(path)) {
    const fs::path parent = plain(path).parent_path();
    return parent.empty() ? fs::path(".") : parent;
  }
  if (!list_step_folders(path).empty()) return path;
  const EarlierRun run = read_earlier_run(path);
  const auto elsewhere = run.options.find("checkpoint-dir");
  return elsewhere != run.options.end() && elsewhere->is_string() ? fs::path(elsewhere->get<std::string>())
                                                                  : path;
}

std::vector<fs::path> find_checkpoints(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error))
    fail(ExitCode::missing_input, "{}: {}", path.string(),
         name_exists(path) ? "is no folder" : "there is no such folder");
  if (is_checkpoint(path)) return {path};
  const fs::path folder = checkpoint_folder_of(path);
  std::vector<fs::path> found;
  for (const StepFolder& one : list_step_folders(folder)) found.push_back(one.path);
  if (found.empty()) fail(ExitCode::missing_input, "{}: holds no checkpoint", folder.string());
  return found;
}

CheckpointReader open_checkpoint(const fs::path& folder) {
  try {
    return CheckpointReader::open(folder);
  } catch (const Error& error) {
    // The checkpoint is there, and a part of it is not.
    if (error.code() == ExitCode::missing_input) throw Error(ExitCode::bad_data, error.what());
    throw;
  }
}

CheckpointReader open_verified(const fs::path& folder, const BytesDone& progress) {
  CheckpointReader reader = open_checkpoint(folder);
  std::uint64_t parts = 0, done = 0;
  for (const StateFileRecord& file : reader.manifest().files) parts += file.checksums.size();
  const std::uint64_t total = state_bytes(reader.manifest());
  for (std::uint64_t part = 0; part < parts; ++part) {
    reader.verify(static_cast<int>(part), static_cast<int>(parts));
    done = std::min(done + kChecksumBytes, total);
    progress(done, total);
  }
  return reader;
}

std::uint64_t state_bytes(const Manifest& manifest) {
  std::uint64_t bytes = 0;
  for (const StateFileRecord& file : manifest.files) bytes += file.bytes;
  return bytes;
}

}  // namespace autoglm
