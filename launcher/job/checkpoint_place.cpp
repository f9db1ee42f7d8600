#include "launcher/job/checkpoint_place.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "launcher/job/job_device.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Of a run, so that its next start removes it where a kill has left it.
fs::path seen_file(const fs::path& directory, const std::string& run) {
  return directory / (".seen-" + run);
}

// A file that rank 0 writes and all must see: else they would save into folders of their own.
void check_seen(const fs::path& directory, const std::string& run, Communicator& ranks) {
  if (ranks.size() == 1) return;
  const fs::path file = seen_file(directory, run);
  const std::string shared = gather_text(ranks, ranks.rank() == 0 ? random_name() : "").front();
  run_agreed(ranks, [&] {
    if (ranks.rank() == 0) write_new_file(file, shared);
  });
  std::string blind;
  try {
    if (read_text_file(file, 1024) != shared) blind = host_name();
  } catch (const Error&) {
    blind = host_name();
  }
  std::vector<std::string> hosts = gather_text(ranks, blind);
  if (ranks.rank() == 0) ::unlink(file.c_str());
  std::erase(hosts, "");
  if (hosts.empty()) return;
  std::ranges::sort(hosts);
  hosts.erase(std::unique(hosts.begin(), hosts.end()), hosts.end());
  throw AgreedError(
      ExitCode::cannot_create,
      fmt::format("{}: is not the same folder on every host: {} {} not see what rank 0 writes there; give a "
                  "--checkpoint-dir that all hosts share",
                  directory.string(), fmt::join(hosts, ", "), hosts.size() == 1 ? "does" : "do"));
}

bool is_unusable(const RunIdentity& identity, const fs::path& folder) {
  if (!identity.resume) return false;
  const auto& unusable = identity.resume->unusable;
  return std::ranges::find(unusable, folder) != unusable.end();
}

// Out of the way of what is saved from now on, and there for who wants to look.
void set_aside(const fs::path& folder, std::string_view why) {
  fs::path to = folder;
  to += fmt::format(".{}-{}", why, random_name().substr(0, 8));
  if (::rename(folder.c_str(), to.c_str()) != 0)
    fail_system(ExitCode::io_failed, folder, fmt::format("cannot be renamed to {}", to.filename().string()),
                errno);
  spdlog::warn("{}: is now {}", folder.string(), to.filename().string());
}

void warn_of(const StepStore::Remains& remains) {
  for (const fs::path& folder : remains)
    spdlog::warn("{}: stays, since it holds files that are none of a checkpoint's", folder.string());
}

}  // namespace

CheckpointPlace take_checkpoint_place(const TrainOptions& options, const RunIdentity& identity,
                                      Communicator& ranks) {
  const fs::path directory = checkpoint_directory(options);
  CheckpointPlace place{StepStore(directory, identity.run), File(-1, directory)};
  const StepStore earlier(directory, identity.earlier());
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return;
    create_folders(directory);
    if (!is_same_folder(directory, options.output)) place.lock = lock_folder(directory, "--checkpoint-dir");
    for (const std::string& run : {identity.earlier(), identity.run})
      ::unlink(seen_file(directory, run).c_str());
    place.store.refuse_foreign([&](const StepFolder& folder) {
      return earlier.is_ours(folder) || is_unusable(identity, folder.path) ||
             is_broken_checkpoint(folder.path);
    });
  });
  check_seen(directory, identity.run, ranks);
  return place;
}

void clear_checkpoint_place(const StepStore& store, const RunIdentity& identity, Communicator& ranks) {
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return;
    if (!identity.earlier().empty()) {
      const StepStore earlier(store.directory(), identity.earlier());
      for (const StepFolder& folder : list_step_folders(store.directory()))
        if (earlier.is_ours(folder))
          spdlog::info("{}: goes, with the run that is replaced", folder.path.string());
      warn_of(earlier.remove_all());
    }
    warn_of(store.remove_leftovers());
    for (const StepFolder& folder : list_step_folders(store.directory())) {
      if (is_unusable(identity, folder.path) || is_broken_checkpoint(folder.path))
        set_aside(folder.path, "broken");
      else if (identity.resume && folder.step > identity.resume->step() && store.is_ours(folder))
        set_aside(folder.path, "replaced");
    }
  });
}

}  // namespace autoglm
