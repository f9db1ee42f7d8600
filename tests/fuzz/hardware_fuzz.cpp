// What the planner reads of devices and links: a file of a profile, and the file of links.
#include "launcher/planner/hardware.h"

#include "base/error.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"

namespace autoglm::fuzz {
namespace {

constexpr const char* kProfile = "hardware/some-gpu.json";
constexpr const char* kLinks = "links.json";

}  // namespace

std::vector<std::string> seeds() {
  constexpr std::string_view profile =
      R"({"name": "some-gpu", "aliases": ["NVIDIA Some"], "description": "a GPU", "source": "its data sheet",
"sold_as_gb": 40, "memory_bytes": 42283827200, "architecture": "sm_80", "matrix_flops_bf16": 3e14,
"matrix_flops_fp32": 1.9e13, "matrix_efficiency": 0.68, "memory_bandwidth": 1.5e12, "host_link_bandwidth": 2.4e10,
"link": {"name": "nvlink3", "bandwidth": 2.3e11}, "gpus_per_node": 8, "node_link": "infiniband-hdr", "node_links": 8,
"host_memory_bytes": null, "host_memory_bandwidth": 2e11, "multiprocessors": 108,
"fixed_device_bytes": {"context": 536870912, "nccl": 754974720, "cublas": 100663296}})";
  constexpr std::string_view links =
      R"({"nvlink3": {"between": "devices", "bandwidth": 1e11, "latency": 3e-6, "channel_bandwidth": 9.6e9},
"infiniband-hdr": {"between": "nodes", "bandwidth": 2.4e10, "latency": 5e-6}})";
  return {joined({profile, links})};
}

std::vector<std::string> words() {
  return {"\"some-gpu\"", "\"devices\"", "\"nodes\"",   "\"sm_\"",          "sm_90",       "null",
          "true",         "1e-400",      "\"aliases\"", "1125899906842624", "\"between\"", "\"latency\""};
}

void read(std::string_view input) {
  std::filesystem::create_directories(folder() / "hardware");
  write_texts(input, {kProfile, kLinks});
  const std::vector<HardwareProfile> profiles = load_hardware_profiles(folder() / "hardware");
  for (const HardwareProfile& one : profiles) {
    AUTOGLM_CHECK(find_hardware_or_null(profiles, one.name) != nullptr);
    const FixedDeviceBytes& fixed = one.fixed_device_bytes;
    AUTOGLM_CHECK(fixed.context + fixed.nccl + fixed.cublas < one.memory_bytes && one.gpus_per_node > 0);
  }
  const std::vector<LinkProfile> links = load_links(folder() / kLinks);
  for (const LinkProfile& one : links) AUTOGLM_CHECK(find_link(links, one.name).bandwidth > 0);
}

}  // namespace autoglm::fuzz
