#include "checkpoint/output_inspection.h"

#include <limits.h>

#include <algorithm>
#include <array>
#include <set>
#include <system_error>

#include "base/error.h"
#include "base/json.h"
#include "checkpoint/directory_listing.h"
#include "checkpoint/file.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLargestRecord = std::uint64_t{64} << 20;
constexpr std::size_t kAsideName = 43;       // ".model.tmp-" and 32 digits
constexpr std::size_t kReplacedSuffix = 37;  // ".tmp-" and 32 digits, of a file that is replaced

// Whether `inner` is `outer` or lies in it. Compared by identity, so other spellings of the path and mounts
// of the same folder are recognized; the part of `inner` that does not exist yet is compared by its existing
// parents.
bool is_within(const fs::path& inner, const fs::path& outer) {
  std::error_code error;
  const fs::path start = fs::weakly_canonical(fs::absolute(inner, error), error);
  for (fs::path folder = start; !error; folder = folder.parent_path()) {
    std::error_code ignored;
    if (fs::equivalent(folder, outer, ignored)) return true;
    if (folder == folder.parent_path()) return false;
  }
  return false;
}

void refuse_model_folder(const fs::path& output, const fs::path& model) {
  if (output.empty()) fail(ExitCode::usage, "--output is empty; name the folder for the trained model");
  std::error_code ignored;
  if (fs::equivalent(output, model, ignored)) {
    fail(ExitCode::usage, "--output {} is the model folder itself; choose another folder", output.string());
  }
  if (is_within(output, model)) {
    fail(ExitCode::usage, "--output {} lies inside the model folder {}; choose a folder outside of it",
         output.string(), model.string());
  }
  if (is_within(model, output)) {
    fail(ExitCode::usage, "the model folder {} lies inside --output {}; choose another output folder",
         model.string(), output.string());
  }
}

// A path below a folder, without detours.
bool is_plain_relative(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() && path.lexically_normal() == path && path.has_filename() &&
         *path.begin() != ".." && *path.begin() != ".";
}

constexpr std::array kRunFiles = {kRunRecordName, kMetricsName, kEarlierRecordName, kEarlierMetricsName};

// "begun at 2026-03-01T12:34:56Z on node7 as process 4711"
std::string describe_begin(const nlohmann::json& record) {
  const nlohmann::json& first = record.at("ranks").at(0);
  const nlohmann::json& process = first.at("pid");
  if (!process.is_number_integer()) fail(ExitCode::bad_data, "\"pid\" is no whole number");
  return fmt::format("begun at {} on {} as process {}", record.at("started_at").get<std::string>(),
                     first.at("host").get<std::string>(), process.get<std::int64_t>());
}

EarlierRun read_record(const fs::path& path) {
  EarlierRun run;
  try {
    const nlohmann::json record = parse_json(read_text_file(path, kLargestRecord), path.string());
    for (const auto& name : record.at("model_files").get<std::vector<std::string>>()) {
      if (is_plain_relative(name)) run.files.insert(name);
    }
    run.model_files = run.files;
    run.finished = record.at("finished").get<bool>();
    const nlohmann::json failure = record.value("failure", nlohmann::json::object());
    run.stopped = failure.value("exit_code", 0) == static_cast<int>(ExitCode::stopped);
    run.run = record.value("run", "");
    run.options = record.value("options", nlohmann::json());
    run.inputs = record.value("inputs", nlohmann::json());
    for (const std::string_view name : kRunFiles) run.files.emplace(name);
    if (record.value("state", "") == "running") run.open_end = describe_begin(record);
  } catch (const std::exception&) {  // not there, or not written by us
    return {};
  }
  return run;
}

// A name that the run would write, or a weight file beside the model's, which a loader might take for a part
// of it.
std::string find_foreign_file(const fs::path& output, std::span<const std::string> file_names,
                              const EarlierRun& earlier) {
  std::vector<std::string> names(file_names.begin(), file_names.end());
  for (const std::string_view name : kRunFiles) names.emplace_back(name);
  for (const std::string& name : names) {
    if (is_taken(output, name, earlier.files)) return name;
  }
  std::error_code error;
  for (fs::directory_iterator entry(output, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    if (weights && !earlier.files.contains(name)) return name;
  }
  if (error)
    fail(ExitCode::cannot_create, "{}: the folder cannot be listed: {}", output.string(), error.message());
  return "";
}

void require_readable(const ModelDirectory& model) {
  for (const OtherFile& file : model.other_files()) File::open(model.path() / file.name);
}

// Everything is written aside first, in a folder of a longer name: that must be possible at the end.
void require_short_names(const fs::path& output, std::span<const std::string> file_names) {
  std::size_t longest = kRunRecordName.size() + kReplacedSuffix;
  for (const std::string& name : file_names)
    longest = std::max(longest, std::size_t{kAsideName} + 1 + name.size() + kReplacedSuffix);
  const std::size_t needed = output.native().size() + 1 + longest;
  if (needed < PATH_MAX) return;
  fail(ExitCode::cannot_create,
       "--output {}: the path is too long: with the names of the model's files it would have {} bytes, where "
       "the system takes {}; choose a shorter one, or go to a folder nearby and give it from there",
       output.string(), needed, PATH_MAX - 1);
}

}  // namespace

// A run that was killed as it began may have left the record of the one before alone.
EarlierRun read_earlier_run(const fs::path& output) {
  EarlierRun run = read_record(output / kRunRecordName);
  return run.files.empty() ? read_record(output / kEarlierRecordName) : run;
}

bool parents_are_folders(const fs::path& output, const std::string& name) {
  fs::path folder = output;
  for (const fs::path& part : fs::path(name).parent_path()) {
    folder /= part;
    std::error_code ignored;
    const fs::file_status status = fs::symlink_status(folder, ignored);
    if (fs::exists(status) && !fs::is_directory(status)) return false;
  }
  return true;
}

bool is_taken(const fs::path& output, const std::string& name, const std::set<std::string>& known) {
  return !parents_are_folders(output, name) || (name_exists(output / name) && !known.contains(name));
}

EarlierRun inspect_output(const fs::path& output, const ModelDirectory& model,
                          std::span<const std::string> file_names, bool overwrite) {
  require_short_names(output, file_names);
  refuse_model_folder(output, model.path());
  require_readable(model);
  std::error_code error;
  const fs::file_status status = fs::status(output, error);
  if (!fs::exists(status)) {
    if (name_exists(output)) {
      fail(ExitCode::cannot_create,
           "--output {} is a symbolic link to nothing; remove it or choose another name", output.string());
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      fail(ExitCode::cannot_create, "--output {} cannot be created: {}", output.string(), error.message());
    }
    return {};
  }
  if (!fs::is_directory(status)) {
    fail(ExitCode::cannot_create, "--output {} is not a folder; choose another name", output.string());
  }
  EarlierRun earlier = read_earlier_run(output);
  if (const std::string foreign = find_foreign_file(output, file_names, earlier); !foreign.empty()) {
    fail(ExitCode::cannot_create,
         "{}: is there already and was not written by a run of autoglm-train; choose another "
         "--output folder",
         (output / foreign).string());
  }
  const bool has_model = name_exists(output / kConfigName);
  if ((earlier.finished || has_model) && !overwrite) {
    fail(ExitCode::cannot_create,
         "--output {} holds a finished run; choose another folder, or give --overwrite to "
         "replace it",
         output.string());
  }
  return earlier;
}

}  // namespace autoglm
