#include "sharding/host/control_groups.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>

namespace autoglm {
namespace {

namespace fs = std::filesystem;

bool lists(std::string_view names, std::string_view wanted) {
  while (!names.empty()) {
    const std::size_t comma = std::min(names.find(','), names.size());
    if (names.substr(0, comma) == wanted) return true;
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  return false;
}

// A hierarchy of groups, mounted somewhere.
struct Mount {
  std::string root;  // the group that the folder shows: "/", or a container's
  std::string folder;
  bool unified = false;
};

// The kernel writes spaces in paths as \040.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    const char* end = text.data() + std::min(i + 4, text.size());
    if (text[i] == '\\' && std::from_chars(text.data() + i + 1, end, code, 8).ptr == text.data() + i + 4) {
      plain += static_cast<char>(code);
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// ID PARENT DEVICE ROOT FOLDER OPTIONS [TAG...] - TYPE SOURCE SUPER-OPTIONS
std::optional<Mount> parse_mount(const std::string& line, std::string_view controller) {
  const std::size_t dash = line.find(" - ");
  if (dash == std::string::npos) return std::nullopt;
  std::istringstream before(line.substr(0, dash)), after(line.substr(dash + 3));
  std::string skipped, root, folder, type, source, options;
  before >> skipped >> skipped >> skipped >> root >> folder;
  after >> type >> source >> options;
  const bool unified = type == "cgroup2";
  if (!unified && (type != "cgroup" || !lists(options, controller))) return std::nullopt;
  return Mount{unescape(root), unescape(folder), unified};
}

std::vector<Mount> mounts_of(std::string_view controller, const fs::path& root) {
  std::vector<Mount> mounts;
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    if (auto mount = parse_mount(line, controller)) mounts.push_back(std::move(*mount));
  }
  // Where they are on every system that says nothing.
  if (mounts.empty()) {
    mounts.push_back({"/", "/sys/fs/cgroup/" + std::string(controller), false});
    mounts.push_back({"/", "/sys/fs/cgroup", true});
  }
  return mounts;
}

// A group's path below the one that is mounted. One that is not below it cannot be seen: its container's can.
std::string below(const std::string& group, const std::string& mounted) {
  if (mounted == "/") return group;
  if (group.compare(0, mounted.size(), mounted) != 0) return "/";
  const std::string rest = group.substr(mounted.size());
  return rest.empty() || rest.front() != '/' ? "/" : rest;
}

// The path of the process's group in the hierarchy of this controller, or in version 2's.
std::optional<std::string> own_path(std::string_view controller, bool unified, const fs::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view names = std::string_view(line).substr(first + 1, second - first - 1);
    if (unified ? names.empty() : lists(names, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> read_kernel_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<std::int64_t> parse_kernel_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (status != std::errc() || number < 0) return std::nullopt;
  return number;
}

std::optional<std::int64_t> read_kernel_value(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(key, 0) != 0) continue;
    std::string_view rest = std::string_view(line).substr(key.size());
    if (rest.empty() || (rest.front() != ' ' && rest.front() != '\t' && rest.front() != ':')) continue;
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t:"), rest.size()));
    return parse_kernel_number(rest);
  }
  return std::nullopt;
}

std::optional<std::int64_t> ControlGroup::number(std::string_view file) const {
  const std::optional<std::string> line = read_kernel_line(folder / file);
  return line ? parse_kernel_number(*line) : std::nullopt;
}

std::vector<ControlGroup> own_control_groups(std::string_view controller, const fs::path& root) {
  std::vector<ControlGroup> groups;
  for (const Mount& mount : mounts_of(controller, root)) {
    const std::optional<std::string> path = own_path(controller, mount.unified, root);
    if (!path) continue;
    std::string group = below(*path, mount.root);
    while (true) {
      groups.push_back({root / (mount.folder + group).substr(1), mount.unified});
      if (group.empty() || group == "/") break;
      group.erase(group.rfind('/'));
    }
  }
  return groups;
}

}  // namespace autoglm
