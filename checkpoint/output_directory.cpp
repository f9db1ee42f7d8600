#include "checkpoint/output_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/units.h"
#include "checkpoint/directory_listing.h"
#include "checkpoint/model_writer.h"
#include "checkpoint/output_inspection.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTrialPrefix = ".trial-";
constexpr std::array kTemporaryPrefixes = {kModelAsidePrefix, kTrialPrefix,
                                           std::string_view("run.json.tmp-")};

constexpr std::string_view kOption = "--output";

fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

void try_writing(const fs::path& folder) {
  const fs::path trial = folder / (std::string(kTrialPrefix) + random_name());
  try {
    write_new_file(trial, "trial");
  } catch (const Error& error) {
    ::unlink(trial.c_str());
    fail(ExitCode::cannot_create, "--output {} cannot be written to: {}", folder.string(), error.what());
  }
  ::unlink(trial.c_str());
}

bool is_temporary(const std::string& name) {
  return std::any_of(kTemporaryPrefixes.begin(), kTemporaryPrefixes.end(), [&](std::string_view prefix) {
    return name.size() == prefix.size() + 32 && name.starts_with(prefix) &&
           name.find_first_not_of("0123456789abcdef", prefix.size()) == std::string::npos;
  });
}

bool holds(const fs::path& path, const std::string& text) {
  try {
    return read_text_file(path, text.size()) == text;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

File lock_folder(const fs::path& folder, std::string_view option) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(ExitCode::cannot_create, "{} {}: {}", option, folder.string(), errno_text(errno));
  File lock(descriptor, folder);
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    fail(ExitCode::cannot_create, "{} {} is being written to by another run; choose another folder", option,
         folder.string());
  }
  return lock;
}

OutputDirectory::CreatedFolders::~CreatedFolders() {
  for (auto folder = folders_.rbegin(); folder != folders_.rend(); ++folder) ::rmdir(folder->c_str());
}

void OutputDirectory::CreatedFolders::create(const fs::path& path) {
  std::vector<fs::path> missing;
  std::error_code error;
  for (fs::path folder = path;
       !folder.empty() && !fs::exists(folder, error) && folder != folder.parent_path();
       folder = folder.parent_path()) {
    missing.push_back(folder);
  }
  for (auto folder = missing.rbegin(); folder != missing.rend(); ++folder) {
    if (::mkdir(folder->c_str(), 0777) == 0) {
      folders_.push_back(*folder);
      sync_directory(folder->parent_path());
    } else if (errno != EEXIST) {
      fail(ExitCode::cannot_create, "--output {} cannot be created: {}: {}", path.string(), folder->string(),
           errno_text(errno));
    }
  }
}

void OutputDirectory::check(const fs::path& output, const ModelDirectory& model, bool overwrite,
                            std::optional<std::vector<std::string>> file_names) {
  if (!file_names) file_names = model.file_names();
  inspect_output(without_trailing_slash(output), model, *file_names, overwrite);
}

OutputDirectory::OutputDirectory(const fs::path& output, const ModelDirectory& model, bool overwrite,
                                 std::optional<std::vector<std::string>> file_names)
    : asked_for_(without_trailing_slash(output)),
      output_(asked_for_),
      model_files_(file_names ? std::move(*file_names) : model.file_names()),
      lock_(-1, output_) {
  EarlierRun earlier = inspect_output(output_, model, model_files_, overwrite);
  earlier_files_ = std::move(earlier.files);
  keeps_model_ = earlier_files_.contains(std::string(kConfigName)) && name_exists(output_ / kConfigName);
  created_.create(output_);
  lock_ = lock_folder(output_, kOption);
  try_writing(output_);
  if (earlier.open_end.empty()) return;
  // It does not hold the lock any more.
  ended_run_ = fmt::format("the run before in {}, {}, was ended from outside: killed, or with its host",
                           output_.string(), earlier.open_end);
}

void OutputDirectory::write_also(const std::string& name) {
  if (std::find(model_files_.begin(), model_files_.end(), name) != model_files_.end()) return;
  refuse_taken(name);
  model_files_.insert(model_files_.empty() ? model_files_.end() : model_files_.end() - 1, name);
}

void OutputDirectory::require_free_names() const {
  for (const std::string& name : model_files_) refuse_taken(name);
}

void OutputDirectory::refuse_taken(const std::string& name) const {
  if (!is_taken(output_, name, earlier_files_)) return;
  fail(ExitCode::cannot_create, "{}: is there and was not written by a run of autoglm-train",
       (output_ / name).string());
}

std::optional<std::uint64_t> OutputDirectory::free_space() const {
  return free_space_of(output_);
}

void OutputDirectory::require_space(std::uint64_t bytes) const {
  const std::optional<std::uint64_t> free = free_space();
  if (!free) return;
  std::uint64_t earlier = 0;
  for (const std::string& name : earlier_files_) {
    std::error_code error;
    const std::uintmax_t size = fs::file_size(output_ / name, error);
    if (!error) earlier += size;
  }
  const std::uint64_t available = keeps_model_ ? *free : *free + earlier;
  if (available >= bytes) return;
  fail(ExitCode::cannot_create,
       "--output {} is on a file system with {} free, but the trained model takes {}{}", output_.string(),
       format_bytes(static_cast<std::int64_t>(available)), format_bytes(static_cast<std::int64_t>(bytes)),
       keeps_model_ && available + earlier >= bytes ? "; the model that is there stays until the new one is "
                                                      "written: remove it first, or choose another folder"
                                                    : "");
}

void OutputDirectory::go_on() {
  const fs::path path = output_ / kRunRecordName;
  if (name_exists(path)) run_record_ = read_text_file(path, std::uint64_t{64} << 20);
  goes_on_ = true;
}

void OutputDirectory::begin() {
  created_.keep();
  remove_temporary_files();
  if (goes_on_) {
    for (const std::string& name : earlier_files_) {
      const bool stays = keeps_model_ || name == kRunRecordName || name == kMetricsName;
      if (!stays) remove_earlier_file(name);
    }
  } else if (keeps_model_) {
    keep_earlier_record();
  } else {
    // run.json names what is left until the end.
    for (const std::string& name : earlier_files_) {
      if (name != kRunRecordName) remove_earlier_file(name);
    }
    remove_earlier_file(std::string(kRunRecordName));
  }
  sync_directory(output_);
}

// Of several runs that were to replace the model and did not, the first one's record is the model's.
void OutputDirectory::keep_earlier_record() const {
  for (const auto& [name, kept] :
       {std::pair(kMetricsName, kEarlierMetricsName), std::pair(kRunRecordName, kEarlierRecordName)}) {
    const fs::path from = output_ / name, to = output_ / kept;
    if (name_exists(to)) {
      remove_earlier_file(std::string(name));
    } else if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      fail_system(ExitCode::cannot_create, from, "cannot be renamed", errno);
    }
  }
}

void OutputDirectory::remove_earlier_model() const {
  for (const std::string& name : earlier_files_) {
    const bool replaced = std::find(model_files_.begin(), model_files_.end(), name) != model_files_.end();
    if (!replaced && name != kRunRecordName && name != kMetricsName) remove_earlier_file(name);
  }
}

void OutputDirectory::take(const fs::path& folder) {
  create_folders(folder);
  File lock = lock_folder(folder, kOption);
  std::vector<std::string> names = model_files_;
  names.emplace_back(kRunRecordName);
  for (const std::string& name : names) {
    if (is_taken(folder, name, {})) fail(ExitCode::cannot_create, "{}: is taken", (folder / name).string());
  }
  lock_ = std::move(lock);
  output_ = folder;
}

void OutputDirectory::restore() {
  if (lock_.is_in_place()) return;
  // Nothing in another folder is of an earlier run.
  earlier_files_.clear();
  keeps_model_ = false;
  run_record_.clear();
  constexpr int kMostTried = 100;
  for (int number = 0;; ++number) {
    fs::path folder = asked_for_;
    if (number > 0) folder += number == 1 ? ".restored" : fmt::format(".restored-{}", number);
    try {
      return take(folder);
    } catch (const DiskFull&) {
      throw;
    } catch (const Error&) {
      if (number == kMostTried) throw;
    }
  }
}

void OutputDirectory::remove_earlier_file(const std::string& name) const {
  if (!earlier_files_.contains(name)) return;
  if (!parents_are_folders(output_, name)) return;
  const fs::path path = output_ / name;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    fail(ExitCode::cannot_create, "{}: cannot be removed to make room for the new run: {}", path.string(),
         errno_text(errno));
  }
  for (fs::path folder = path.parent_path(); folder != output_; folder = folder.parent_path()) {
    if (::rmdir(folder.c_str()) != 0) break;  // something else is in it
  }
}

void OutputDirectory::remove_temporary_files() const {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(output_, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary(entry->path().filename().string())) found.push_back(entry->path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
  if (error) fail(ExitCode::cannot_create, "{}: {}", output_.string(), error.message());
}

void OutputDirectory::write_run_record(nlohmann::ordered_json record, bool finished) {
  const fs::path path = output_ / kRunRecordName;
  if (name_exists(path) && !holds(path, run_record_)) {
    fail(ExitCode::cannot_create, "{}: was changed by something else, and is left as it is", path.string());
  }
  record["finished"] = finished;
  std::vector<std::string> files;
  if (!finished && keeps_model_) {
    std::copy_if(earlier_files_.begin(), earlier_files_.end(), std::back_inserter(files),
                 [&](const auto& name) {
                   return std::find(model_files_.begin(), model_files_.end(), name) == model_files_.end();
                 });
  }
  files.insert(files.end(), model_files_.begin(), model_files_.end());
  record["model_files"] = files;
  // File names may hold any bytes; JSON may not.
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  const std::string text = record.dump(2, ' ', false, replace) + "\n";
  replace_file(path, text);
  run_record_ = text;
}

}  // namespace autoglm
