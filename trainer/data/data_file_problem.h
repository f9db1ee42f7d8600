// What is wrong with what --data names, before a sample of it is read.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace autoglm {

// So many of a file's first bytes tell its format.
inline constexpr std::size_t kFormatBytes = 512;

// What a file that begins so is, where it is known to be no text: "a gzip file". Empty otherwise.
std::string foreign_format_of(std::string_view begin);

// Why a path that cannot be opened, with this error number, is none, and what to give instead: the end of a
// sentence that names it.
std::string describe_unopened(const std::filesystem::path& path, int error_number);

// The same of a path that is no regular file.
std::string describe_irregular(const std::filesystem::path& path);

}  // namespace autoglm
