#include "launcher/planner/memory_budget.h"

#include <algorithm>

#include "sharding/cuda/cublas_workspace.h"
#include "sharding/reduce_route.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;
constexpr std::int64_t kSystemBytes = 4 * kGibibyte;
constexpr std::int64_t kProcessBytes = kGibibyte;
// Drivers and settings of a card differ by this part of its memory.
constexpr std::int64_t kDriverPart = 200;
// What NCCL takes of both devices for a channel of messages between them (NVIDIA/nccl issue 1685).
constexpr std::int64_t kChannelBytes = 15'000'000;

// Ranks send gradients to all others of their node, and between nodes to one on either side.
std::int64_t message_bytes(const HardwareProfile& profile, int ranks) {
  const std::int64_t in_node = std::min<std::int64_t>(ranks, profile.gpus_per_node);
  const std::int64_t peers = in_node - 1 + (ranks > in_node ? 2 : 0);
  const int channels = profile.link.name.starts_with("nvlink") ? kMessageChannels : kPcieMessageChannels;
  return peers * channels * kChannelBytes;
}

}  // namespace

std::int64_t node_memory_for(std::int64_t host, const ClusterShape& shape) {
  return (host + kProcessBytes) * shape.ranks_per_node() + kSystemBytes;
}

std::int64_t fixed_bytes(const HardwareProfile& profile, int ranks, ReduceScatter reduce_scatter) {
  const FixedDeviceBytes& fixed = profile.fixed_device_bytes;
  // The workspace is in what is rehearsed already; only the rest of the figure is outside of the arena.
  const std::int64_t handles = std::max<std::int64_t>(0, fixed.cublas - kCublasWorkspaceBytes);
  const bool sends = ranks > 1 && reduce_scatter == ReduceScatter::ordered;
  return fixed.context + handles + (ranks > 1 ? fixed.nccl : 0) + (sends ? message_bytes(profile, ranks) : 0);
}

MemoryBudget budget_of(const HardwareProfile& profile, const ClusterShape& shape,
                       std::optional<std::int64_t> host_memory, ReduceScatter reduce_scatter) {
  MemoryBudget budget;
  budget.device = profile.memory_bytes - profile.memory_bytes / kDriverPart -
                  fixed_bytes(profile, shape.ranks, reduce_scatter);
  if (host_memory) {
    budget.host =
        std::max<std::int64_t>(0, (*host_memory - kSystemBytes) / shape.ranks_per_node() - kProcessBytes);
  }
  return budget;
}

}  // namespace autoglm
