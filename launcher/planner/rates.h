// Speeds and budgets of a device that is known from its profile alone.
#pragma once

#include <cstdint>
#include <optional>

#include "base/math.h"
#include "launcher/planner/hardware.h"
#include "launcher/planner/search.h"

namespace autoglm {

// Ranks on nodes of one kind.
struct ClusterShape {
  int ranks = 1;
  int nodes = 1;
  int ranks_per_node() const { return divide_up(ranks, nodes); }
};

// `between_nodes` counts where there are several. A ring passes every link once, so the slowest sets the
// pace.
Rates rates_of(const HardwareProfile& profile, const ClusterShape& shape, const LinkProfile& between_nodes,
               Precision precision);

// What is left for tensors on one rank: of the device without context, NCCL and cuBLAS; of the host's memory
// its share without the system (4 GiB of a node) and the process (1 GiB of a rank). `host_memory` is a
// node's.
MemoryBudget budget_of(const HardwareProfile& profile, const ClusterShape& shape,
                       std::optional<std::int64_t> host_memory);

// Bytes of the device that tensors cannot have.
std::int64_t fixed_bytes(const HardwareProfile& profile, int ranks);

}  // namespace autoglm
