// The folder that holds a run's checkpoints: what is in it, and how they come and go.
//
// DIRECTORY/checkpoint-STEP is whole, verified and durable, or it is not there. It is written as
// checkpoint-STEP.tmp-RUN and renamed; one that goes is first renamed to checkpoint-STEP.old-RUN. One that is replaced
// on a file system that cannot exchange two names is checkpoint-STEP.prior-RUN for a moment, and counts as a checkpoint
// where that moment was a job's last. RUN is 32 random digits that a run's checkpoints share, so that what a run left
// behind is known as its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/step_store/manifest.h"

namespace autoglm {

struct StepFolder {
  std::int64_t step = 0;
  std::filesystem::path path;
};

// Folders that are named as checkpoints are, the newest first; nothing of them is read, and symbolic links are none.
// None where there is no `directory`. Throws Error(missing_input) when it cannot be read.
std::vector<StepFolder> list_step_folders(const std::filesystem::path& directory);

// Whether a folder holds files of a checkpoint, and no manifest that can be read.
bool is_broken_checkpoint(const std::filesystem::path& folder) noexcept;

class StepStore {
 public:
  // Touches nothing. `run` is 32 hexadecimal digits.
  StepStore(std::filesystem::path directory, std::string run);

  const std::filesystem::path& directory() const { return directory_; }
  const std::string& run() const { return run_; }

  std::filesystem::path folder_of(std::int64_t step) const;
  // Where a step is written before it is whole.
  std::filesystem::path aside_of(std::int64_t step) const;

  // Whether the folder's manifest is whole and of this run.
  bool is_ours(const StepFolder& folder) const noexcept;

  // Throws Error(cannot_create) where something in the directory has the name of a checkpoint, is none of this run,
  // and is not `accepted`: it would be in the way. Reads manifests.
  void refuse_foreign(const std::function<bool(const StepFolder&)>& accepted = {}) const;

  // Bytes of the files of a checkpoint of this run, as its manifest has them; 0 of others.
  std::uint64_t bytes_of(const StepFolder& folder) const noexcept;

  // The same of this run's newest checkpoints, of so many of them. Throws what list_step_folders() throws.
  std::uint64_t bytes_of_newest(std::int64_t most) const;

  // Where this run's checkpoint of a step is, if its manifest is whole and its files have their sizes. Throws what
  // list_step_folders() throws.
  std::optional<std::filesystem::path> find_whole(std::int64_t step) const;

  // Makes aside_of(step), also where it is there. Any rank may. Throws Error(cannot_create) or DiskFull.
  void create_aside(std::int64_t step) const;

  // Puts what lies in aside_of(manifest.step) into place, once all of its files are durable. Whatever happens
  // meanwhile, the old checkpoint of that step, if there is one, is whole or the new one is. Also brings `latest`
  // up to date, which is only a hint. Throws Error(io_failed), also where a file is not there with all of its bytes,
  // Error(cannot_create) or DiskFull.
  void commit(const Manifest& manifest) const;

  // Removes aside_of(step), as far as it holds a checkpoint's files alone. Nothing is thrown: what is left is removed
  // by remove_leftovers().
  void discard(std::int64_t step) const noexcept;

  // Folders that were to be removed and stay, without their checkpoint, because there are files of others in them.
  using Remains = std::vector<std::filesystem::path>;

  // Removes this run's checkpoints of steps below `newest`, but for the `keep` - 1 highest of them and those of
  // `kept`. To be called once `newest` is committed. Throws Error(io_failed).
  Remains rotate(std::int64_t newest, std::int64_t keep, const std::set<std::int64_t>& kept) const;

  // Removes all of this run's checkpoints. Throws Error(io_failed).
  Remains remove_all() const;

  // Removes what saves and removals of this run left unfinished. Throws Error(io_failed).
  Remains remove_leftovers() const;

 private:
  std::filesystem::path latest_aside() const;
  void write_latest(const std::filesystem::path& place) const noexcept;
  void remove(const StepFolder& folder, Remains& remains) const;
  std::filesystem::path beside(std::int64_t step, std::string_view suffix) const;
  bool remove_beside(const std::filesystem::path& folder) const;
  void exchange(std::int64_t step) const;

  std::filesystem::path directory_;
  std::string run_;
};

}  // namespace autoglm
