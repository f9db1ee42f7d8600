// The program's own settings files by name: hardware, links and well-known models.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

// The *.json files of a folder in the order of their names: Error(missing_input) when it cannot be read or
// holds none.
std::vector<std::filesystem::path> list_config_files(const std::filesystem::path& directory);

// Lower case, with a hyphen where a space or an underscore was.
std::string comparable_name(std::string_view name);

// Throws Error(usage): there is no `kind` of that name; which was perhaps meant, and which there are.
[[noreturn]] void fail_unknown_name(std::string_view kind, std::string_view name,
                                    const std::vector<std::string>& known,
                                    const std::vector<std::string>& also_known = {});

}  // namespace autoglm
