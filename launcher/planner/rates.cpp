#include "launcher/planner/rates.h"

#include <algorithm>

#include "sharding/cuda/cublas_workspace.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;
constexpr std::int64_t kSystemBytes = 4 * kGibibyte;
constexpr std::int64_t kProcessBytes = kGibibyte;
// Products of fewer rows leave part of a large GPU idle.
constexpr double kHalfTokens = 128;
// Collectives take a few multiprocessors and some of the memory's bandwidth from compute.
constexpr double kOverlap = 0.9;
// About 25 kernels a pass, started in 4 microseconds each.
constexpr double kBlockOverhead = 1e-4;
// Of the data sheet's memory bandwidth.
constexpr double kStreamEfficiency = 0.85;

}  // namespace

Rates rates_of(const HardwareProfile& profile, const ClusterShape& shape, const LinkProfile& between_nodes,
               Precision precision) {
  Rates rates;
  rates.peak_flops = precision == Precision::bf16 ? profile.matrix_flops_bf16 : profile.matrix_flops_fp32;
  rates.matrix_flops = rates.peak_flops * profile.matrix_efficiency;
  rates.matrix_half_tokens = kHalfTokens;
  rates.memory_bandwidth = profile.memory_bandwidth * kStreamEfficiency;
  rates.host_link_bandwidth = profile.host_link_bandwidth;
  rates.host_memory_bandwidth = profile.host_memory_bandwidth / shape.ranks_per_node();
  rates.link_bandwidth = profile.link.bandwidth;
  if (shape.nodes > 1) rates.link_bandwidth = std::min(rates.link_bandwidth, between_nodes.bandwidth);
  rates.link_latency = shape.nodes > 1 ? between_nodes.latency * (shape.ranks - 1) : 3e-6 * (shape.ranks - 1);
  rates.overlap = kOverlap;
  rates.block_overhead = kBlockOverhead;
  return rates;
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
  budget.device = profile.memory_bytes - fixed_bytes(profile, shape.ranks);
  if (host_memory) {
    budget.host =
        std::max<std::int64_t>(0, (*host_memory - kSystemBytes) / shape.ranks_per_node() - kProcessBytes);
  }
  return budget;
}

}  // namespace autoglm
