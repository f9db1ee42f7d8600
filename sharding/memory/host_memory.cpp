#include "sharding/memory/host_memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>

#include "base/error.h"
#include "base/math.h"
#include "base/units.h"
#include "sharding/host/control_groups.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kKibibyte = 1024, kMebibyte = kKibibyte << 10;
// A pool below this holds nothing worth training.
constexpr std::int64_t kLeastPool = 32 * kMebibyte;

// The limits that a group itself sets; its parents have theirs. Above memory.high the kernel slows a process
// down.
std::int64_t limit_of(const ControlGroup& group) {
  std::int64_t limit = std::numeric_limits<std::int64_t>::max();
  const auto take = [&](std::optional<std::int64_t> bytes) {
    if (bytes && *bytes > 0) limit = std::min(limit, *bytes);
  };
  if (group.unified) {
    take(group.number("memory.max"));
    take(group.number("memory.high"));
  } else {
    take(group.number("memory.limit_in_bytes"));
    // Also of parents that a container does not see.
    take(read_kernel_value(group.folder / "memory.stat", "hierarchical_memory_limit"));
  }
  return limit;
}

// What a group holds and would not give back for the asking: without what is cached of files.
std::int64_t held_by(const ControlGroup& group) {
  const auto held = group.number(group.unified ? "memory.current" : "memory.usage_in_bytes");
  constexpr std::array cached = {"inactive_file", "active_file", "slab_reclaimable"};
  constexpr std::array cached_below = {"total_inactive_file", "total_active_file"};
  std::int64_t bytes = held.value_or(0);
  const auto leave_out = [&](const char* key) {
    bytes -= read_kernel_value(group.folder / "memory.stat", key).value_or(0);
  };
  if (group.unified) {
    std::ranges::for_each(cached, leave_out);
  } else {
    std::ranges::for_each(cached_below, leave_out);
  }
  return std::max<std::int64_t>(0, bytes);
}

std::int64_t machine_bytes(const fs::path& root) {
  if (const auto total = read_kernel_value(root / "proc/meminfo", "MemTotal")) return *total * kKibibyte;
  return static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

// Bytes under a limit of the system's; none where there is no limit.
std::optional<std::int64_t> resource_limit(decltype(RLIMIT_AS) which) {
  rlimit limit{};
  if (getrlimit(which, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return static_cast<std::int64_t>(
      std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<std::int64_t>::max()));
}

// What the host grants, where no limit of this process's own says how much that is: all, or half of the most.
std::int64_t granted_addresses(std::int64_t wanted, const std::function<bool(std::int64_t)>& maps) {
  if (maps(wanted)) return wanted;
  std::int64_t granted = 0, refused = wanted;
  while (refused - granted > kLeastPool / 2) {
    const std::int64_t middle = granted + (refused - granted) / 2;
    (maps(middle) ? granted : refused) = middle;
  }
  if (granted / 2 >= std::min(wanted, kLeastPool)) return granted / 2;
  const bool counts_all = read_kernel_line("/proc/sys/vm/overcommit_memory").value_or("") == "2";
  fail(ExitCode::unavailable,
       "this host maps no more than {} for the process now, too few for any model: the least that is needed "
       "is {}, and more by what the model takes; {}",
       format_bytes(granted), format_bytes(4 * kLeastPool),
       counts_all ? "vm.overcommit_memory is 2: set it to 0 or 1, or raise vm.overcommit_ratio"
                  : "end what else takes memory on it, or raise the limit that its administrator has set");
}

}  // namespace

std::int64_t host_memory_limit(const fs::path& root) {
  std::int64_t limit = machine_bytes(root);
  for (const ControlGroup& group : own_control_groups("memory", root))
    limit = std::min(limit, limit_of(group));
  return limit;
}

std::int64_t available_host_memory(const fs::path& root) {
  std::int64_t available = machine_bytes(root);
  if (const auto now = read_kernel_value(root / "proc/meminfo", "MemAvailable"))
    available = std::min(available, *now * kKibibyte);
  for (const ControlGroup& group : own_control_groups("memory", root)) {
    const std::int64_t limit = limit_of(group);
    if (limit < std::numeric_limits<std::int64_t>::max())
      available = std::min(available, limit - held_by(group));
  }
  return std::max<std::int64_t>(0, available);
}

std::optional<AddressLimit> address_limit() {
  std::optional<AddressLimit> least;
  const auto take = [&](const char* name, decltype(RLIMIT_AS) which, const char* used) {
    const std::optional<std::int64_t> limit = resource_limit(which);
    if (!limit) return;
    const std::int64_t taken = read_kernel_value("/proc/self/status", used).value_or(0) * kKibibyte;
    const std::int64_t room = std::max<std::int64_t>(0, *limit - taken);
    if (!least || room < least->room) least = AddressLimit{name, *limit, room};
  };
  take("ulimit -v", RLIMIT_AS, "VmSize");
  take("ulimit -d", RLIMIT_DATA, "VmData");
  return least;
}

bool system_maps(std::int64_t bytes) {
  const auto size = static_cast<std::size_t>(bytes);
  void* base =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return base != MAP_FAILED && munmap(base, size) == 0;
}

std::int64_t pool_addresses(std::int64_t wanted, const std::function<bool(std::int64_t)>& maps) {
  const std::optional<AddressLimit> limit = address_limit();
  if (!limit) return granted_addresses(wanted, maps);
  // The other half is for the second pool, data, the stacks of threads, and libraries.
  const std::int64_t addresses = std::min(wanted, limit->room / 2);
  if (addresses < std::min(wanted, kLeastPool)) {
    const std::int64_t needed = limit->bytes - limit->room + 4 * kLeastPool;
    fail(ExitCode::unavailable,
         "{} {} leaves {} of addresses, too few for any model: the least that is needed is {} {}, and more "
         "by what the model takes",
         limit->name, limit->bytes / kKibibyte, format_bytes(limit->room), limit->name,
         divide_up(needed, kKibibyte));
  }
  return addresses;
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
