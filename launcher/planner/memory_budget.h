// How many bytes a rank may use.
#pragma once

#include <cstdint>
#include <optional>

#include "launcher/planner/hardware.h"
#include "sharding/strategy.h"

namespace autoglm {

struct MemoryBudget {
  std::int64_t device = 0;
  std::optional<std::int64_t> host;  // none: unknown, taken as enough
  bool shared = false;               // both pools come out of `device`, as on a CPU
};

// What is left for tensors on one rank: of the device without context, NCCL, cuBLAS and half a percent, by which
// drivers differ in what they leave; of the host's memory
// its share without the system (4 GiB of a node) and the process (1 GiB of a rank). `host_memory` is a
// node's.
MemoryBudget budget_of(const HardwareProfile& profile, const ClusterShape& shape,
                       std::optional<std::int64_t> host_memory,
                       ReduceScatter reduce_scatter = ReduceScatter::ordered);

// The other way round: the memory of a node of which each rank may use so many bytes of the host.
std::int64_t node_memory_for(std::int64_t host, const ClusterShape& shape);

// Bytes of the device that tensors cannot have.
std::int64_t fixed_bytes(const HardwareProfile& profile, int ranks,
                         ReduceScatter reduce_scatter = ReduceScatter::ordered);

}  // namespace autoglm
