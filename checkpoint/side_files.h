// The files beside a model's weights, kept from when a run begins until its model is written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/model_directory.h"

namespace autoglm {

// config.json and every other file that goes along to the trained model, the index of its shards not among
// them. Small ones are held in memory and large ones open, so that whatever happens to the model's folder while
// a run trains, its output gets the files that it was trained with.
class SideFiles {
 public:
  // Reads every file of other_files(). Throws as File::open does, and Error(io_failed).
  static SideFiles keep(const ModelDirectory& model);

  // The text of a file; none when it is not there, or is too large to be held.
  std::optional<std::string> text(std::string_view name) const;

  // Replaces a file's contents, or adds the file.
  void set(const std::string& name, std::string text);

  // Leaves a file out, and every file below it where it is a folder ("sub/").
  void remove(const std::string& name);

  // Relative to the folder, in order; config.json is last, because a folder without it is no model.
  std::vector<std::string> names() const;

  std::uint64_t bytes() const;

  // Writes all files durably under `folder`. Throws as write_new_file does.
  void write(const std::filesystem::path& folder) const;

 private:
  std::map<std::string, std::variant<std::string, File>, std::less<>> files_;
};

}  // namespace autoglm
