#include "launcher/planner/rates.h"

#include <algorithm>

#include "sharding/reduce_route.h"

namespace autoglm {
namespace {

// Products of fewer rows leave part of a large GPU idle.
constexpr double kHalfTokens = 128;
// Collectives take a few multiprocessors and some of the memory's bandwidth from compute.
constexpr double kOverlap = 0.9;
// A kernel's beginning and end, in which a device is not full.
constexpr double kLaunchOverhead = 4e-6;
// Of the data sheet's memory bandwidth.
constexpr double kStreamEfficiency = 0.85;

// A ring runs over every adapter of a node, but ranks that leave devices of a node idle leave theirs idle too.
double bandwidth_between_nodes(const HardwareProfile& profile, const ClusterShape& shape,
                               const LinkProfile& link) {
  const double in_use =
      std::min(1.0, static_cast<double>(shape.ranks_per_node()) / static_cast<double>(profile.gpus_per_node));
  return link.bandwidth * std::max(1.0, in_use * static_cast<double>(profile.node_links));
}

}  // namespace

Rates rates_of(const HardwareProfile& profile, const ClusterShape& shape, const LinkProfile& between_devices,
               const LinkProfile& between_nodes, Precision precision) {
  Rates rates;
  const bool in_bf16 = precision == Precision::bf16;
  rates.peak_flops =
      in_bf16 ? profile.matrix_flops_bf16.value_or(profile.matrix_flops_fp32) : profile.matrix_flops_fp32;
  rates.matrix_flops = rates.peak_flops * profile.matrix_efficiency;
  rates.matrix_half_tokens = kHalfTokens;
  rates.memory_bandwidth = profile.memory_bandwidth * kStreamEfficiency;
  rates.host_link_bandwidth = profile.host_link_bandwidth;
  rates.host_memory_bandwidth = profile.host_memory_bandwidth / shape.ranks_per_node();
  rates.link_bandwidth = profile.link.bandwidth;
  rates.spans_hosts = shape.nodes > 1;
  if (shape.nodes > 1) {
    rates.link_bandwidth =
        std::min(rates.link_bandwidth, bandwidth_between_nodes(profile, shape, between_nodes));
  }
  rates.message_bandwidth =
      std::min(rates.link_bandwidth, kMessageChannels * between_devices.channel_bandwidth);
  rates.link_latency = shape.nodes > 1 ? between_nodes.latency * (shape.ranks - 1) : 3e-6 * (shape.ranks - 1);
  rates.overlap = kOverlap;
  rates.launch_overhead = kLaunchOverhead;
  return rates;
}

Rates guessed_cpu_rates() {
  Rates rates;
  rates.matrix_flops = 7e10;
  rates.peak_flops = 1e11;
  rates.memory_bandwidth = 1e10;
  rates.host_link_bandwidth = 5e9;
  rates.host_memory_bandwidth = 1e10;
  rates.link_bandwidth = 3e9;
  rates.message_bandwidth = 3e9;
  rates.link_latency = 5e-5;
  // Communication runs on the cores that compute.
  rates.overlap = 0;
  rates.launch_overhead = kLaunchOverhead;
  return rates;
}

Rates unknown_cuda_rates() {
  Rates rates;
  rates.matrix_flops = 5e13;
  rates.peak_flops = 1e14;
  rates.matrix_half_tokens = 128;
  rates.memory_bandwidth = 5e11;
  rates.host_link_bandwidth = 1e10;
  rates.host_memory_bandwidth = 5e10;
  rates.link_bandwidth = 1e10;
  rates.message_bandwidth = 1e10;
  rates.link_latency = 2e-5;
  rates.overlap = 0.9;
  rates.launch_overhead = kLaunchOverhead;
  return rates;
}

}  // namespace autoglm
