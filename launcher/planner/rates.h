// How fast a device and its links are, before a probe has measured them.
#pragma once

#include "base/dtype.h"
#include "launcher/planner/hardware.h"

namespace autoglm {

// Speeds of one rank's device and of what connects it. Bytes and operations per second.
struct Rates {
  double matrix_flops = 0;           // that matrix products of the training precision reach
  double peak_flops = 0;             // of the data sheet, for MFU
  double matrix_half_tokens = 0;     // rows of a product at which it reaches half of that speed
  double memory_bandwidth = 0;       // elementwise work and the optimizer on the device
  double host_link_bandwidth = 0;    // between device and host, each way
  double host_memory_bandwidth = 0;  // this rank's share, for the optimizer on the host
  double link_bandwidth = 0;         // that NCCL's gathers, or a ring, reach per rank
  double message_bandwidth = 0;      // that messages to a shard's owner reach per rank
  bool spans_hosts = false;          // so that sums of gradients go on from host to host, in fp32
  double link_latency = 0;           // seconds until a collective begins to move bytes
  double overlap = 1;                // share of communication that can hide behind compute
  double launch_overhead = 0;        // seconds that a kernel takes beyond its arithmetic

  // That products of so many rows reach.
  double product_speed(std::int64_t rows) const {
    const auto number = static_cast<double>(rows);
    return matrix_flops * number / (number + matrix_half_tokens);
  }
};

// Of a device that is known from its profile; in fp32 where it has no bf16 arithmetic. `between_nodes` counts
// where there are several nodes: one adapter, of which a node has profile.node_links. A ring passes every link
// once, so the slowest sets the pace. Messages go at the pace of kMessageChannels of `between_devices`.
Rates rates_of(const HardwareProfile& profile, const ClusterShape& shape, const LinkProfile& between_devices,
               const LinkProfile& between_nodes, Precision precision);

// Of a CPU core or so; the probe corrects them.
Rates guessed_cpu_rates();

// Of a CUDA device without a profile: a small one, so that offloading is not taken for cheap.
Rates unknown_cuda_rates();

}  // namespace autoglm
