// Whether a folder may be written to by a run, decided by looking only.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/model_directory.h"

namespace autoglm {

// Returns the files (relative paths) of an earlier run that a new one, which writes files of these names, would
// replace. Throws as OutputDirectory::check does.
std::vector<std::string> inspect_output(const std::filesystem::path& output, const ModelDirectory& model,
                                        std::span<const std::string> file_names, bool overwrite);

// Whether every folder on the way from `output` to `name` is a real one or missing, so that a file of that
// name lies within `output`.
bool parents_are_folders(const std::filesystem::path& output, const std::string& name);

}  // namespace autoglm
