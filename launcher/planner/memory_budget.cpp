#include "launcher/planner/memory_budget.h"

#include <algorithm>

#include "sharding/cuda/cublas_workspace.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;
constexpr std::int64_t kSystemBytes = 4 * kGibibyte;
constexpr std::int64_t kProcessBytes = kGibibyte;
// Drivers and settings of a card differ by this part of its memory.
constexpr std::int64_t kDriverPart = 200;

}  // namespace

std::int64_t node_memory_for(std::int64_t host, const ClusterShape& shape) {
  return (host + kProcessBytes) * shape.ranks_per_node() + kSystemBytes;
}

std::int64_t fixed_bytes(const HardwareProfile& profile, int ranks) {
  const FixedDeviceBytes& fixed = profile.fixed_device_bytes;
  // The workspace is in what is rehearsed already; only the rest of the figure is outside of the arena.
  const std::int64_t handles = std::max<std::int64_t>(0, fixed.cublas - kCublasWorkspaceBytes);
  return fixed.context + handles + (ranks > 1 ? fixed.nccl : 0);
}

MemoryBudget budget_of(const HardwareProfile& profile, const ClusterShape& shape,
                       std::optional<std::int64_t> host_memory) {
  MemoryBudget budget;
  budget.device =
      profile.memory_bytes - profile.memory_bytes / kDriverPart - fixed_bytes(profile, shape.ranks);
  if (host_memory) {
    budget.host =
        std::max<std::int64_t>(0, (*host_memory - kSystemBytes) / shape.ranks_per_node() - kProcessBytes);
  }
  return budget;
}

}  // namespace autoglm
