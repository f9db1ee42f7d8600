#include "launcher/job/earlier_run.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/output_inspection.h"
#include "launcher/job/job_device.h"
#include "launcher/job/resume_rules.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Of rank 0, on every rank. Collective.
bool of_first(Communicator& ranks, bool mine) {
  return gather(ranks, mine ? 1 : 0).front() == 1;
}

// Whether the run that the record is of wrote what these options ask for.
bool wrote_the_same(const nlohmann::ordered_json& before, const nlohmann::ordered_json& now) {
  for (const char* const name : {"save-dtype", "export"})
    if (before.contains(name) && before[name] != now[name]) return false;
  return option_changes(before, now).empty();
}

// Of a run, so that its next start removes what is left when it is killed here.
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

// Out of the way of what is saved from now on, and there for who wants to look.
void set_aside_broken(const StepStore& store, const ResumePoint& resume) {
  for (const StepFolder& folder : list_step_folders(store.directory())) {
    if (folder.step <= resume.step() || store.is_ours(folder)) continue;
    fs::path to = folder.path;
    to += ".broken-" + random_name().substr(0, 8);
    if (::rename(folder.path.c_str(), to.c_str()) == 0)
      spdlog::warn("{}: is now {}", folder.path.string(), to.filename().string());
  }
}

}  // namespace

bool is_finished_already(const TrainOptions& options, Communicator& ranks) {
  bool alike = false;
  if (ranks.rank() == 0 && !options.saving.overwrite && options.saving.resume == "auto") {
    const EarlierRun earlier = read_earlier_run(options.output);
    alike =
        earlier.finished && earlier.options.is_object() && wrote_the_same(earlier.options, to_json(options));
  }
  alike = of_first(ranks, alike);
  if (alike && ranks.rank() == 0)
    spdlog::info("{}: this training is finished already, with the same options; nothing is left to do",
                 options.output.string());
  return alike;
}

RunIdentity identify_run(const TrainOptions& options, Communicator& ranks) {
  RunIdentity identity;
  const EarlierRun earlier = ranks.rank() == 0 ? read_earlier_run(options.output) : EarlierRun();
  identity.finished = of_first(ranks, earlier.finished);
  identity.earlier = gather_text(ranks, earlier.run).front();
  const bool anew = identity.finished && options.saving.resume == "auto";
  if (!anew) identity.resume = find_resume_point(options, ranks);
  identity.run = identity.resume ? identity.resume->checkpoint.manifest().run
                                 : gather_text(ranks, ranks.rank() == 0 ? random_name() : "").front();
  identity.goes_on = identity.resume && !identity.finished && identity.earlier == identity.run;
  if (identity.earlier == identity.run) identity.earlier.clear();
  return identity;
}

StepStore open_step_store(const TrainOptions& options, const RunIdentity& identity, Communicator& ranks) {
  const StepStore store(checkpoint_directory(options), identity.run);
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return;
    create_folders(store.directory());
    for (const std::string& run : {identity.earlier, identity.run})
      ::unlink(seen_file(store.directory(), run).c_str());
    if (!identity.earlier.empty()) {
      const StepStore earlier(store.directory(), identity.earlier);
      // A run that is going on has its checkpoints; one that is begun anew or replaced needs them no more.
      if (identity.resume)
        earlier.remove_leftovers();
      else
        earlier.remove_all();
    }
    store.remove_leftovers();
    if (identity.resume) set_aside_broken(store, *identity.resume);
    store.refuse_foreign();
  });
  check_seen(store.directory(), identity.run, ranks);
  return store;
}

}  // namespace autoglm
