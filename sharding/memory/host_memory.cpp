#include "sharding/memory/host_memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace autoglm {
namespace {

// A limit file holds a number of bytes, or "max".
std::int64_t read_limit(const std::string& path, std::int64_t otherwise) {
  std::ifstream file(path);
  std::int64_t limit = 0;
  return file >> limit && limit > 0 ? std::min(limit, otherwise) : otherwise;
}

}  // namespace

std::int64_t host_memory_limit() {
  std::int64_t limit = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  limit = read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit);
  // Control groups version 2: the process's own group and every one above it may limit.
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    std::string group = line.substr(3);
    while (true) {
      limit = read_limit("/sys/fs/cgroup" + group + "/memory.max", limit);
      if (group.empty() || group == "/") break;
      group.erase(group.rfind('/'));
    }
  }
  return limit;
}

std::int64_t host_addresses() {
  return 2 * host_memory_limit();
}

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

}  // namespace autoglm
