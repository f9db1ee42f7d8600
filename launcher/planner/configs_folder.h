// Where the ready-made settings lie: hardware profiles, links, models.
#pragma once

#include <filesystem>

namespace autoglm {

// The folder share/autoglm-train/configs of the first folder above this program that has one: of the build
// tree, of an installed tree or of a bundle, wherever it was moved. Throws Error(missing_input) when there is
// none.
std::filesystem::path configs_folder();

// The same for a program that lies in `folder`.
std::filesystem::path configs_folder_above(const std::filesystem::path& folder);

}  // namespace autoglm
