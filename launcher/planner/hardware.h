// What the planner knows of devices and links before it has seen them: configs/hardware/*.json,
// configs/links.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/math.h"

namespace autoglm {

// A way between devices or nodes.
struct LinkProfile {
  enum class Between { devices, nodes };

  std::string name;  // "nvlink3", "infiniband-hdr"
  Between between = Between::devices;
  // Bytes per second in one direction, as collectives reach it: of one device's link, or of one adapter,
  // which the devices of a node share.
  double bandwidth = 0;
  double latency = 0;  // seconds per message between neighbours of a ring
  // Bytes per second that one of NCCL's channels between two devices moves; 0 between nodes.
  double channel_bandwidth = 0;
};

// Bytes on the device that no allocator of ours sees: upper figures, until a probe has measured them.
struct FixedDeviceBytes {
  std::int64_t context = 0;  // the CUDA context and the kernels loaded into it
  std::int64_t nccl = 0;     // of collectives between several ranks; a single rank has none
  std::int64_t cublas = 0;   // handles, with the workspace that rehearsals count
};

// The link between the devices of one node.
struct DeviceLink {
  std::string name;      // one of configs/links.json
  double bandwidth = 0;  // bytes per second and direction, the bus bandwidth of an all-reduce per device
};

// One kind of device and the node that it usually sits in. Bytes, seconds and operations, never multiples.
struct HardwareProfile {
  std::string name;                  // "a100-40gb"
  std::vector<std::string> aliases;  // other names, the driver's among them
  std::string description;
  std::string source;                       // where the figures come from
  std::int64_t sold_as_gb = 0;              // the size in its name
  std::int64_t memory_bytes = 0;            // what cudaMemGetInfo calls the total
  std::string architecture;                 // "sm_80"
  std::optional<int> multiprocessors;       // none: not more than most have
  std::optional<double> matrix_flops_bf16;  // per second, dense, fp32 sums; none: no bf16 arithmetic
  double matrix_flops_fp32 = 0;             // per second, true fp32 (no TF32)
  double matrix_efficiency = 0;             // part of these that large matrix products reach, in (0, 1]
  double memory_bandwidth = 0;              // bytes per second
  double host_link_bandwidth = 0;           // bytes per second to or from pinned host memory, one direction
  DeviceLink link;
  std::int64_t gpus_per_node = 0;
  std::string node_link;                          // between nodes, one of configs/links.json
  std::int64_t node_links = 1;                    // adapters of it in a node, which its devices share
  std::optional<std::int64_t> host_memory_bytes;  // of a node; none: unknown
  double host_memory_bandwidth = 0;               // bytes per second of a node
  FixedDeviceBytes fixed_device_bytes;
};

// Ranks on nodes of one kind.
struct ClusterShape {
  int ranks = 1;
  int nodes = 1;
  int ranks_per_node() const { return divide_up(ranks, nodes); }
};

// Reads every profile of a folder (*.json), by memory and then by name. Throws Error(bad_data) that names
// file and field: a missing or unknown field, a value of another kind or out of range, a name given twice;
// and Error(missing_input) when the folder cannot be read or holds none.
std::vector<HardwareProfile> load_hardware_profiles(const std::filesystem::path& directory);

// One profile. `where` names the file in messages.
HardwareProfile parse_hardware_profile(const nlohmann::json& object, const std::string& where);

// The profile of that name or alias; case does not count, nor whether words are joined by spaces, underscores
// or hyphens. Throws Error(usage) that lists the names and suggests the nearest.
const HardwareProfile& find_hardware(std::span<const HardwareProfile> profiles, std::string_view name);

// The same, but null instead of an error: for a device's own name, which may be unknown.
const HardwareProfile* find_hardware_or_null(std::span<const HardwareProfile> profiles,
                                             std::string_view name);

// Reads a file of links by name, in the file's order of names. Errors as above.
std::vector<LinkProfile> load_links(const std::filesystem::path& file);

// Throws Error(usage) that lists the names and suggests the nearest.
const LinkProfile& find_link(std::span<const LinkProfile> links, std::string_view name);

}  // namespace autoglm
