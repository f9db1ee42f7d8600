#include "checkpoint/step_store/step_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "checkpoint/file.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "checkpoint-", kAside = ".tmp-", kRemoved = ".old-", kPrior = ".prior-";
constexpr std::string_view kLatest = "latest";

std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  return whole && step >= 0 && name == std::to_string(step) ? std::optional(step) : std::nullopt;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto at = fs::directory_iterator(folder, error); !error && at != fs::directory_iterator();
       at.increment(error))
    names.push_back(at->path().filename().string());
  const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (error && !missing)
    fail(ExitCode::missing_input, "{}: cannot be read: {}", folder.string(), error.message());
  return names;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

bool is_state_file(std::string_view name) {
  return name.starts_with("states-") && name.ends_with(".safetensors");
}

// Removes a folder with a checkpoint's files, whole or in part. Another file stays, and the folder with it: then it
// returns false. NFS keeps a file that another process has open under a name of its own.
bool remove_folder(const fs::path& folder) {
  if (!name_exists(folder)) return true;
  if (!is_folder(folder)) fail(ExitCode::io_failed, "{}: is no folder", folder.string());
  for (const std::string& name : names_in(folder)) {
    const bool ours = name == kManifestName || is_state_file(name);
    if (ours && ::unlink((folder / name).c_str()) != 0 && errno != ENOENT)
      fail_system(ExitCode::io_failed, folder / name, "cannot be removed", errno);
  }
  if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) return true;
  if (errno == ENOTEMPTY || errno == EEXIST) return false;
  fail_system(ExitCode::io_failed, folder, "cannot be removed", errno);
}

void rename_to(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail_system(ExitCode::io_failed, from, fmt::format("cannot be renamed to {}", to.filename().string()),
                errno);
}

// A host whose mount has gone may have written into a folder of its own by that name.
void require_files(const fs::path& folder, const Manifest& manifest) {
  for (const StateFileRecord& record : manifest.files) {
    const fs::path path = folder / record.name;
    std::error_code error;
    const std::uintmax_t size = fs::file_size(path, error);
    if (error)
      fail(ExitCode::io_failed, "{}: was written, and is not there: {}", path.string(), error.message());
    if (size != record.bytes)
      fail(ExitCode::io_failed, "{}: has {} bytes, {} were written", path.string(), size, record.bytes);
  }
}

void write_manifest(const fs::path& path, const std::string& text) {
  write_new_file(path, text);
  if (read_text_file(path, text.size()) != text)
    fail(ExitCode::io_failed, "{}: other bytes are read than were written a moment ago", path.string());
}

}  // namespace

std::vector<StepFolder> list_step_folders(const fs::path& directory) {
  std::vector<StepFolder> folders;
  for (const std::string& name : names_in(directory)) {
    // What a job that was killed set aside a moment before its successor came into place.
    const std::string place = name.substr(0, name.find(kPrior));
    if (place != name && name_exists(directory / place)) continue;
    const auto step = step_of(place);
    if (step && is_folder(directory / name)) folders.push_back({*step, directory / name});
  }
  std::ranges::sort(folders, std::greater(), &StepFolder::step);
  return folders;
}

bool is_broken_checkpoint(const fs::path& folder) noexcept {
  try {
    const auto ours = [](const std::string& name) { return name == kManifestName || is_state_file(name); };
    if (!is_folder(folder) || std::ranges::none_of(names_in(folder), ours)) return false;
    read_manifest(folder);
    return false;
  } catch (const Error& error) {
    return error.code() == ExitCode::bad_data || error.code() == ExitCode::missing_input;
  } catch (const std::exception&) {
    return false;
  }
}

StepStore::StepStore(fs::path directory, std::string run)
    : directory_(std::move(directory)), run_(std::move(run)) {}

fs::path StepStore::folder_of(std::int64_t step) const {
  return directory_ / fmt::format("{}{}", kPrefix, step);
}

fs::path StepStore::aside_of(std::int64_t step) const {
  return beside(step, kAside);
}

bool StepStore::is_ours(const StepFolder& folder) const noexcept {
  try {
    if (!is_folder(folder.path)) return false;
    const Manifest manifest = read_manifest(folder.path);
    return manifest.run == run_ && manifest.step == folder.step;
  } catch (const std::exception&) {
    return false;
  }
}

std::uint64_t StepStore::bytes_of(const StepFolder& folder) const noexcept {
  if (!is_ours(folder)) return 0;
  try {
    std::uint64_t bytes = 0;
    for (const StateFileRecord& file : read_manifest(folder.path).files) bytes += file.bytes;
    return bytes;
  } catch (const std::exception&) {
    return 0;
  }
}

std::uint64_t StepStore::bytes_of_newest(std::int64_t most) const {
  std::uint64_t sum = 0;
  for (const StepFolder& folder : list_step_folders(directory_)) {
    const std::uint64_t bytes = most > 0 ? bytes_of(folder) : 0;
    if (bytes > 0) --most;
    sum += bytes;
  }
  return sum;
}

std::optional<fs::path> StepStore::find_whole(std::int64_t step) const {
  for (const StepFolder& folder : list_step_folders(directory_)) {
    if (folder.step != step || !is_ours(folder)) continue;
    try {
      require_files(folder.path, read_manifest(folder.path));
      return folder.path;
    } catch (const Error&) {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

void StepStore::refuse_foreign(const std::function<bool(const StepFolder&)>& accepted) const {
  for (const std::string& name : names_in(directory_)) {
    const auto step = step_of(name);
    if (!step || is_ours({*step, directory_ / name})) continue;
    if (accepted && accepted({*step, directory_ / name})) continue;
    fail(ExitCode::cannot_create,
         "{}: is there, and is no checkpoint of this run; move it away, or choose another --checkpoint-dir",
         (directory_ / name).string());
  }
}

void StepStore::create_aside(std::int64_t step) const {
  const fs::path aside = aside_of(step);
  if (::mkdir(aside.c_str(), 0777) != 0 && errno != EEXIST)
    fail_system(ExitCode::cannot_create, aside, "cannot be created", errno);
}

fs::path StepStore::beside(std::int64_t step, std::string_view suffix) const {
  fs::path path = folder_of(step);
  return path += fmt::format("{}{}", suffix, run_);
}

// A folder may have got its name from a job that was killed before that was durable: it comes back by the name that
// it had when the power goes, and must then have its files.
bool StepStore::remove_beside(const fs::path& folder) const {
  if (!name_exists(folder)) return true;
  sync_directory(directory_);
  return remove_folder(folder);
}

// In one step where the file system can; else the old one lies beside it for the moment between two renames.
void StepStore::exchange(std::int64_t step) const {
  const fs::path aside = aside_of(step), place = folder_of(step), prior = beside(step, kPrior);
  if (::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE) == 0) return;
  remove_beside(prior);
  rename_to(place, prior);
  rename_to(aside, place);
}

void StepStore::commit(const Manifest& manifest) const {
  const std::int64_t step = manifest.step;
  const fs::path aside = aside_of(step), place = folder_of(step);
  // Names of the ranks' files first: a manifest must not be there without them.
  sync_directory(aside);
  require_files(aside, manifest);
  write_manifest(aside / kManifestName, manifest_text(manifest));
  sync_directory(aside);
  if (!name_exists(place)) {
    rename_to(aside, place);
  } else {
    if (!is_ours({step, place}))
      fail(ExitCode::cannot_create, "{}: is there, and is no checkpoint of this run", place.string());
    exchange(step);
  }
  sync_directory(directory_);
  write_latest(place);
  try {
    remove_folder(aside);
    remove_folder(beside(step, kPrior));
  } catch (const Error&) {
    // The new one is in place. remove_leftovers() will meet the old one again.
  }
}

fs::path StepStore::latest_aside() const {
  return directory_ / fmt::format("{}{}{}", kLatest, kAside, run_);
}

void StepStore::write_latest(const fs::path& place) const noexcept {
  const fs::path aside = latest_aside();
  try {
    ::unlink(aside.c_str());
    write_new_file(aside, place.filename().string() + "\n");
    rename_to(aside, directory_ / kLatest);
    sync_directory(directory_);
  } catch (const std::exception&) {
    ::unlink(aside.c_str());  // Nobody relies on it.
  }
}

void StepStore::discard(std::int64_t step) const noexcept {
  try {
    remove_beside(aside_of(step));
    if (name_exists(folder_of(step))) remove_beside(beside(step, kPrior));
  } catch (const std::exception&) {
    // remove_leftovers() will meet it again.
  }
}

void StepStore::remove(const StepFolder& folder, Remains& remains) const {
  const fs::path old = beside(folder.step, kRemoved);
  remove_beside(old);
  rename_to(folder.path, old);
  sync_directory(directory_);
  if (!remove_folder(old)) remains.push_back(old);
}

StepStore::Remains StepStore::rotate(std::int64_t newest, std::int64_t keep,
                                     const std::set<std::int64_t>& kept) const {
  std::int64_t left = keep;
  std::vector<StepFolder> surplus;
  for (const StepFolder& folder : list_step_folders(directory_)) {
    if (folder.step > newest || !is_ours(folder)) continue;
    if (--left >= 0 || folder.step == newest || kept.contains(folder.step)) continue;
    surplus.push_back(folder);
  }
  std::ranges::reverse(surplus);
  Remains remains;
  for (const StepFolder& folder : surplus) remove(folder, remains);
  return remains;
}

StepStore::Remains StepStore::remove_all() const {
  Remains remains;
  for (const StepFolder& folder : list_step_folders(directory_))
    if (is_ours(folder)) remove(folder, remains);
  remove_leftovers();
  return remains;
}

StepStore::Remains StepStore::remove_leftovers() const {
  Remains remains;
  if (::unlink(latest_aside().c_str()) != 0 && errno != ENOENT)
    fail_system(ExitCode::io_failed, latest_aside(), "cannot be removed", errno);
  for (const std::string& name : names_in(directory_)) {
    for (const std::string_view suffix : {kAside, kRemoved, kPrior}) {
      const std::string ending = fmt::format("{}{}", suffix, run_);
      if (!name.ends_with(ending) || !is_folder(directory_ / name)) continue;
      const std::string place = name.substr(0, name.size() - ending.size());
      if (!step_of(place) || (suffix == kPrior && !name_exists(directory_ / place))) continue;
      if (!remove_beside(directory_ / name)) remains.push_back(directory_ / name);
    }
  }
  return remains;
}

}  // namespace autoglm
