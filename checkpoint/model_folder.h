// Whether a path is a model's folder, and what to name instead where it is not.
#pragma once

#include <filesystem>
#include <string>

namespace autoglm {

// Throws Error(missing_input) unless `directory` is a folder that holds a config.json. Where what was given is known
// for something else (a name on the hub, a folder of the hub's cache, an adapter, a weight file, a folder above the
// model), the sentence says what to do about it.
void require_model_folder(const std::filesystem::path& directory);

}  // namespace autoglm
