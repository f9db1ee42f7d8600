// Where the kernel keeps the limits of the control groups that this process is in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace autoglm {

// The first line of a small file of the kernel's; none when it cannot be read.
std::optional<std::string> read_kernel_line(const std::filesystem::path& path);

// A whole number of at least 0; none when the text does not begin with one ("max").
std::optional<std::int64_t> parse_kernel_number(std::string_view text);

// The number that follows `key` at the beginning of a line, as in /proc/meminfo, /proc/self/status and
// memory.stat.
std::optional<std::int64_t> read_kernel_value(const std::filesystem::path& path, std::string_view key);

// The folder of one group.
struct ControlGroup {
  std::filesystem::path folder;
  bool unified = false;  // version 2, which has other names for its files

  // The number in one of its files; none when it is not there, or says "max".
  std::optional<std::int64_t> number(std::string_view file) const;
};

// The process's own group for this controller of version 1 ("memory", "cpu"), and its own of version 2, each
// followed by all above it that can be seen. `root` stands before /proc and /sys: another host's, in tests.
std::vector<ControlGroup> own_control_groups(std::string_view controller,
                                             const std::filesystem::path& root = "/");

}  // namespace autoglm
