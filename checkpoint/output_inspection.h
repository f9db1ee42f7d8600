// Whether a folder may be written to by a run, decided by looking only.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/model_directory.h"

namespace autoglm {

// What an earlier run left.
struct EarlierRun {
  std::set<std::string> files;        // relative paths; empty when there is no run of ours
  std::set<std::string> model_files;  // those of them that are its model's
  bool finished = false;
  bool stopped = false;            // on request, after a checkpoint
  std::string run;                 // its 32 digits; empty where its record has none
  nlohmann::ordered_json options;  // as its record has them
  nlohmann::ordered_json inputs;   // marks of its data and its model
  // When and where it began, for a run of which nothing says how it ended.
  std::string open_end;
};

// What the record in the folder says; an empty run where there is none of ours.
EarlierRun read_earlier_run(const std::filesystem::path& output);

// Returns the earlier run whose files a new one, which writes files of these names, would replace. Throws as
// OutputDirectory::check does.
EarlierRun inspect_output(const std::filesystem::path& output, const ModelDirectory& model,
                          std::span<const std::string> file_names, bool overwrite);

// Whether every folder on the way from `output` to `name` is a real one or missing, so that a file of that
// name lies within `output`.
bool parents_are_folders(const std::filesystem::path& output, const std::string& name);

// Whether something has this name that the files of `known` do not, or keeps it from being a file in `output`.
bool is_taken(const std::filesystem::path& output, const std::string& name,
              const std::set<std::string>& known);

}  // namespace autoglm
