#include "launcher/job/earlier_run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/output_inspection.h"
#include "checkpoint/step_store/step_store.h"
#include "launcher/job/resume_rules.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

// Of rank 0, on every rank. Collective.
bool of_first(Communicator& ranks, bool mine) {
  return gather(ranks, mine ? 1 : 0).front() == 1;
}

// Whether a run of the options `before` wrote what a run of the options `now` would.
bool writes_the_same(const nlohmann::ordered_json& before, const nlohmann::ordered_json& now) {
  std::vector<const char*> chosen = {"save-dtype", "export"};
  // The step whose weights are written is chosen among those that are evaluated.
  if (now["export"] == "best") chosen.push_back("evaluate-every");
  for (const char* const name : chosen)
    if (before.contains(name) && before[name] != now[name]) return false;
  return option_changes(before, now).empty();
}

// Of a run's checkpoints in a folder, the newest; nothing where there are none.
std::optional<fs::path> newest_of(const std::string& run, const fs::path& directory) {
  if (run.empty()) return std::nullopt;
  const StepStore store(directory, run);
  for (const StepFolder& folder : list_step_folders(directory))
    if (store.is_ours(folder)) return folder.path;
  return std::nullopt;
}

fs::path recorded_directory(const EarlierRun& earlier, const TrainOptions& options) {
  const auto found =
      earlier.options.is_object() ? earlier.options.find("checkpoint-dir") : earlier.options.end();
  const bool elsewhere = earlier.options.is_object() && found != earlier.options.end() && found->is_string();
  return elsewhere ? fs::path(found->get<std::string>()) : options.output;
}

// The run whose record is there has not ended, and nothing of it was found: before its record goes, where its
// checkpoints may be.
void refuse_to_forget(const EarlierRun& earlier, const TrainOptions& options) {
  const fs::path directory = recorded_directory(earlier, options);
  if (const auto newest = newest_of(earlier.run, directory)) {
    fail(
        ExitCode::missing_input,
        "{}: holds a run whose checkpoints are in {}; give --checkpoint-dir {} to go on with it, or --resume "
        "never to begin anew",
        options.output.string(), directory.string(), directory.string());
  }
  if (!earlier.stopped) return;
  fail(ExitCode::missing_input,
       "{}: holds a run that was stopped after a checkpoint, which is not in {}; bring it back to go on, or "
       "give "
       "--resume never to begin anew",
       options.output.string(), directory.string());
}

void refuse_other_run(const EarlierRun& earlier, const TrainOptions& options) {
  const auto newest = newest_of(earlier.run, recorded_directory(earlier, options));
  if (!newest) return;
  fail(ExitCode::cannot_create,
       "--resume {}: is of another run than the one that {} holds, which can go on from {}; choose another "
       "--output, or go on with that one without --resume",
       options.saving.resume, options.output.string(), newest->string());
}

}  // namespace

bool has_finished_alike(const TrainOptions& options, Communicator& ranks) {
  bool alike = false;
  if (ranks.rank() == 0 && !options.saving.overwrite && options.saving.resume == "auto") {
    const EarlierRun earlier = read_earlier_run(options.output);
    alike = earlier.finished && earlier.inputs.is_object() && earlier.options.is_object() &&
            writes_the_same(earlier.options, to_json(options));
  }
  return of_first(ranks, alike);
}

void tell_finished(const TrainOptions& options, const InputMarks& marks, Communicator& ranks) {
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return;
    const EarlierRun earlier = read_earlier_run(options.output);
    const nlohmann::ordered_json now = to_json(marks);
    for (const auto& [name, option] :
         {std::pair("data", "data"), std::pair("config", "model"), std::pair("weights", "model")}) {
      if (earlier.inputs.value(name, "") == now[name].get<std::string>()) continue;
      fail(
          ExitCode::cannot_create,
          "{}: holds a finished run with the same options, but what --{} names was another then; --overwrite "
          "replaces its model, or choose another --output",
          options.output.string(), option);
    }
    for (const std::string& name : earlier.model_files) {
      if (name_exists(options.output / name)) continue;
      fail(ExitCode::cannot_create,
           "{}: holds a finished run with the same options, whose {} is gone; --overwrite trains it again",
           options.output.string(), name);
    }
    spdlog::info(
        "{}: this training is finished already, with the same options and inputs; nothing is left to do",
        options.output.string());
  });
}

RunIdentity identify_run(const TrainOptions& options, Communicator& ranks) {
  RunIdentity identity;
  const EarlierRun earlier = ranks.rank() == 0 ? read_earlier_run(options.output) : EarlierRun();
  identity.finished = of_first(ranks, earlier.finished);
  identity.recorded = gather_text(ranks, earlier.run).front();
  const bool is_auto = options.saving.resume == "auto";
  if (!identity.finished || !is_auto) identity.resume = find_resume_point(options, identity.recorded, ranks);
  const bool is_of_record = identity.resume && identity.recorded == identity.resume->run();
  // Where the record is lost, the checkpoints that lie where this job's will lie are its own.
  const bool is_without_record =
      identity.resume && identity.recorded.empty() &&
      is_of_these_folders(identity.resume->checkpoint.manifest(), options) &&
      is_same_folder(identity.resume->checkpoint.folder().parent_path(), checkpoint_directory(options));
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0 || identity.finished || options.saving.resume == "never") return;
    if (!identity.resume && !earlier.run.empty()) refuse_to_forget(earlier, options);
    if (identity.resume && !is_of_record && !earlier.run.empty()) refuse_other_run(earlier, options);
  });
  const bool is_own = of_first(ranks, is_of_record || is_without_record);
  identity.run =
      is_own ? identity.resume->run() : gather_text(ranks, ranks.rank() == 0 ? random_name() : "").front();
  identity.goes_on = is_of_record && !identity.finished;
  return identity;
}

void check_still_so(const TrainOptions& options, const RunIdentity& identity, Communicator& ranks) {
  run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return;
    const EarlierRun now = read_earlier_run(options.output);
    bool same = now.run == identity.recorded && now.finished == identity.finished;
    if (same && identity.goes_on && options.saving.resume == "auto") {
      const auto newest = newest_of(identity.run, checkpoint_directory(options));
      const auto& unusable = identity.resume->unusable;
      same = newest && (*newest == identity.resume->checkpoint.folder() ||
                        std::ranges::find(unusable, *newest) != unusable.end());
    }
    if (same) return;
    fail(ExitCode::cannot_create,
         "{}: another job has ended in it this moment; start again to go on from there",
         options.output.string());
  });
}

}  // namespace autoglm
