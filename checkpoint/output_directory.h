// The folder that a run writes to: whether it may be used, and what an earlier run left in it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/model_directory.h"

namespace autoglm {

// Locks a folder until the file is closed: two runs in one folder would mix their files. Where the file system cannot
// lock, nothing is locked. `option` is what named it. Throws Error(cannot_create) where another run holds the lock.
File lock_folder(const std::filesystem::path& folder, std::string_view option);

// What belongs to a run is written down in its run.json, which lists the model's files from the start
// ("model_files", relative paths) and says at the end that the run is "finished". Only files of that list,
// run.json, metrics.jsonl and temporary files are ever replaced or removed. A run starts only where none of its
// files' names is taken by something else, and looks again before the model is put into place.
//
// One process (rank 0) owns the folder: it is locked until the object is destroyed.
class OutputDirectory {
 public:
  // Looks, and changes nothing (for --dry-run). Throws
  // - Error(usage) when the output folder is the model folder, lies in it, or contains it;
  // - Error(cannot_create) when it is no folder, when something that is not ours has the name of a file to be
  // written
  //   or is a weight file, or when it holds a finished run and `overwrite` is not set;
  // - Error(missing_input) when a file of the model that is to be copied cannot be read.
  // `file_names` are those of the model that is to be written, model.file_names() unless the run adds some.
  static void check(const std::filesystem::path& output, const ModelDirectory& model, bool overwrite,
                    std::optional<std::vector<std::string>> file_names = {});

  // The same, then creates the folder and its parents, locks it, and writes and removes a file as a trial.
  // Also throws Error(cannot_create) when that fails or another run holds the lock. Folders that it created
  // are removed again when it throws, and on destruction when begin() was never called.
  OutputDirectory(const std::filesystem::path& output, const ModelDirectory& model, bool overwrite,
                  std::optional<std::vector<std::string>> file_names = {});

  const std::filesystem::path& path() const { return output_; }

  // A sentence about the earlier run in the folder, where it was ended from outside: it wrote down that it began,
  // and not how it ended.
  const std::optional<std::string>& run_that_was_ended() const { return ended_run_; }

  // One more file of the model. Throws Error(cannot_create) when something that is not ours has that name.
  void write_also(const std::string& name);

  // Throws Error(cannot_create) when the folder's file system has less than `bytes` free, the files that
  // begin() would remove counted as free.
  void require_space(std::uint64_t bytes) const;

  // Bytes that may be written to the folder; none when its file system does not say.
  std::optional<std::uint64_t> free_space() const;

  // Goes on with the unfinished run whose record is there: that and its metrics stay, and begin() removes the rest of
  // what it left.
  void go_on();

  // Removes what an unfinished run left. A model that is to be replaced stays, with the record and the metrics of
  // the run that wrote it under other names. To be called when nothing but training can fail any more. Throws
  // Error(cannot_create).
  void begin();

  // Throws Error(cannot_create) when something that neither this run nor the earlier one wrote has the name of
  // one of the model's files.
  void require_free_names() const;

  // Removes what is left of the earlier model and is not replaced by the new one's files. To be called when
  // these are all written aside. Throws Error(cannot_create).
  void remove_earlier_model() const;

  // Removes what was being written. Throws Error(cannot_create).
  void remove_temporary_files() const;

  // Makes the folder again, and locks it, where it was removed or renamed meanwhile. Where files of others have
  // taken the run's names by then, or another run the folder, path() becomes one beside it (".restored"). Throws
  // Error(cannot_create) or DiskFull.
  void restore();

  // Replaces run.json by `record` with "finished" and "model_files" added. Throws Error(cannot_create), also where
  // the run.json that is there is not the one that was written last, Error(io_failed) or DiskFull.
  void write_run_record(nlohmann::ordered_json record, bool finished);

 private:
  // Folders that were created here, outermost first; removed again on destruction, if they are empty.
  class CreatedFolders {
   public:
    CreatedFolders() = default;
    CreatedFolders(const CreatedFolders&) = delete;
    CreatedFolders& operator=(const CreatedFolders&) = delete;
    ~CreatedFolders();
    void create(const std::filesystem::path& path);
    void keep() { folders_.clear(); }

   private:
    std::vector<std::filesystem::path> folders_;
  };

  void refuse_taken(const std::string& name) const;
  void take(const std::filesystem::path& folder);
  void remove_earlier_file(const std::string& name) const;
  void keep_earlier_record() const;

  std::filesystem::path asked_for_;
  std::filesystem::path output_;          // or another beside it
  std::vector<std::string> model_files_;  // of this run, config.json last
  std::set<std::string> earlier_files_;   // of an earlier one, to be removed
  bool goes_on_ = false;
  bool keeps_model_ = false;  // the earlier one's model, until this run's is written
  std::optional<std::string> ended_run_;
  std::string run_record_;  // as it was written last
  CreatedFolders created_;
  File lock_;
};

}  // namespace autoglm
