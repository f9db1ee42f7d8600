#include "launcher/planner/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/planner/configs_folder.h"
#include "tests/launcher/expect_error.h"
#include "tests/launcher/temporary_folder.h"

namespace autoglm {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

std::vector<HardwareProfile> profiles() {
  return load_hardware_profiles(configs_folder() / "hardware");
}

json valid_profile() {
  return json::parse(R"({"name": "card", "aliases": ["the card"], "description": "a card", "source": "none",
    "sold_as_gb": 8, "memory_bytes": 8000000000, "architecture": "sm_80", "matrix_flops_bf16": 1e12, "matrix_flops_fp32": 5e11,
    "matrix_efficiency": 0.5, "memory_bandwidth": 1e11, "host_link_bandwidth": 1e10,
    "link": {"name": "pcie4", "bandwidth": 1e10}, "gpus_per_node": 2, "node_link": "10gbe",
    "host_memory_bytes": 64000000000, "host_memory_bandwidth": 5e10,
    "fixed_device_bytes": {"context": 500000000, "nccl": 200000000, "cublas": 30000000}})");
}

TEST(Hardware, KnowsTheCardsThatPeopleName) {
  const std::vector<HardwareProfile> known = profiles();
  for (const char* name : {"a100-40gb", "a100-80gb", "h100-80gb", "h200", "a6000", "rtx3090", "rtx4090",
                           "generic-8gb", "generic-16gb", "generic-24gb", "generic-48gb"})
    EXPECT_EQ(find_hardware(known, name).name, name);
  EXPECT_EQ(find_hardware(known, "NVIDIA A100-SXM4-40GB").name, "a100-40gb");
  EXPECT_EQ(find_hardware(known, "rtx 4090").name, "rtx4090");
  EXPECT_EQ(find_hardware(known, "H100_80GB").name, "h100-80gb");
  EXPECT_EQ(find_hardware_or_null(known, "Voodoo 2"), nullptr);
}

// A profile may promise less than the label on the card, never more.
TEST(Hardware, MemoryIsBelowTheNominalSizeAndNearIt) {
  const std::pair<const char*, double> nominal[] = {
      {"a100-40gb", 40},    {"a100-80gb", 80},    {"h100-80gb", 80},    {"h200", 141},
      {"a6000", 48},        {"rtx3090", 24},      {"rtx4090", 24},      {"generic-8gb", 8},
      {"generic-16gb", 16}, {"generic-24gb", 24}, {"generic-48gb", 48},
  };
  const std::vector<HardwareProfile> known = profiles();
  EXPECT_EQ(known.size(), std::size(nominal));
  for (const auto& [name, gib] : nominal) {
    const double total = static_cast<double>(find_hardware(known, name).memory_bytes) / (1 << 30);
    EXPECT_LT(total, gib) << name;
    EXPECT_GT(total, 0.9 * gib) << name;
  }
}

TEST(Hardware, FiguresAreInBytesAndOperationsPerSecond) {
  for (const HardwareProfile& profile : profiles()) {
    SCOPED_TRACE(profile.name);
    EXPECT_GT(profile.matrix_flops_bf16, 1e13);
    EXPECT_LT(profile.matrix_flops_bf16, 3e15);
    EXPECT_LE(profile.matrix_flops_fp32, profile.matrix_flops_bf16);
    EXPECT_GT(profile.memory_bandwidth, 1e11);
    EXPECT_LT(profile.memory_bandwidth, 1e13);
    EXPECT_GT(profile.host_link_bandwidth, 5e9);
    EXPECT_LT(profile.host_link_bandwidth, 1e11);
    EXPECT_LT(profile.link.bandwidth, 1e12);
    const std::int64_t fixed = profile.fixed_device_bytes.context + profile.fixed_device_bytes.nccl +
                               profile.fixed_device_bytes.cublas;
    EXPECT_LT(fixed, std::int64_t{2} << 30);
    EXPECT_FALSE(profile.source.empty());
  }
}

TEST(Hardware, EveryLinkOfAProfileIsKnownAndOfItsKind) {
  const std::vector<LinkProfile> links = load_links(configs_folder() / "links.json");
  for (const HardwareProfile& profile : profiles()) {
    SCOPED_TRACE(profile.name);
    EXPECT_EQ(find_link(links, profile.link.name).between, LinkProfile::Between::devices);
    EXPECT_LE(profile.link.bandwidth, find_link(links, profile.link.name).bandwidth);
    EXPECT_EQ(find_link(links, profile.node_link).between, LinkProfile::Between::nodes);
  }
  for (const char* name : {"nvlink3", "nvlink4", "pcie3", "pcie4", "pcie5", "infiniband-hdr",
                           "infiniband-ndr", "100gbe", "25gbe", "10gbe", "1gbe"})
    EXPECT_EQ(find_link(links, name).name, name);
  // 1 Gb/s is 125 MB/s on the wire.
  EXPECT_LT(find_link(links, "1gbe").bandwidth, 125e6);
  EXPECT_GT(find_link(links, "1gbe").bandwidth, 100e6);
}

TEST(Hardware, UnknownNamesAreAUsageErrorWithTheNearest) {
  const std::vector<HardwareProfile> known = profiles();
  EXPECT_THAT(error_of(ExitCode::usage, [&] { find_hardware(known, "a100-4gb"); }),
              AllOf(HasSubstr("\"a100-4gb\""), HasSubstr("did you mean a100-40gb?"), HasSubstr("rtx3090")));
  EXPECT_THAT(error_of(ExitCode::usage, [&] { find_hardware(known, "rtx-409O"); }),
              HasSubstr("did you mean rtx-4090?"));
  EXPECT_THAT(error_of(ExitCode::usage, [&] { find_hardware(known, "abacus"); }),
              Not(HasSubstr("did you mean")));
  const std::vector<LinkProfile> links = load_links(configs_folder() / "links.json");
  EXPECT_THAT(error_of(ExitCode::usage, [&] { find_link(links, "nvlink5"); }),
              HasSubstr("did you mean nvlink"));
}

TEST(Hardware, ReadsEveryField) {
  const HardwareProfile profile = parse_hardware_profile(valid_profile(), "card.json");
  EXPECT_EQ(profile.aliases, std::vector<std::string>{"the card"});
  EXPECT_EQ(profile.memory_bytes, 8000000000);
  EXPECT_EQ(profile.architecture, "sm_80");
  EXPECT_EQ(profile.matrix_flops_bf16, 1e12);
  EXPECT_EQ(profile.matrix_flops_fp32, 5e11);
  EXPECT_EQ(profile.matrix_efficiency, 0.5);
  EXPECT_EQ(profile.memory_bandwidth, 1e11);
  EXPECT_EQ(profile.host_link_bandwidth, 1e10);
  EXPECT_EQ(profile.link.name, "pcie4");
  EXPECT_EQ(profile.link.bandwidth, 1e10);
  EXPECT_EQ(profile.gpus_per_node, 2);
  EXPECT_EQ(profile.node_link, "10gbe");
  EXPECT_EQ(profile.host_memory_bytes, 64000000000);
  EXPECT_EQ(profile.host_memory_bandwidth, 5e10);
  EXPECT_EQ(profile.fixed_device_bytes.context, 500000000);
  EXPECT_EQ(profile.fixed_device_bytes.nccl, 200000000);
  EXPECT_EQ(profile.fixed_device_bytes.cublas, 30000000);
  json unknown = valid_profile();
  unknown["host_memory_bytes"] = nullptr;
  EXPECT_EQ(parse_hardware_profile(unknown, "card.json").host_memory_bytes, std::nullopt);
}

std::string error_with(const std::string& pointer, const json& value) {
  json object = valid_profile();
  object[json::json_pointer(pointer)] = value;
  return error_of(ExitCode::bad_data, [&] { parse_hardware_profile(object, "card.json"); });
}

TEST(Hardware, WrongFieldsAreNamed) {
  EXPECT_THAT(error_with("/memory_bytes", "8GB"),
              AllOf(HasSubstr("card.json"), HasSubstr("\"memory_bytes\"")));
  EXPECT_THAT(error_with("/memory_bytes", 1000), HasSubstr("fixed bytes"));
  EXPECT_THAT(error_with("/architecture", "ampere"), HasSubstr("sm_80"));
  EXPECT_THAT(error_with("/matrix_efficiency", 1.5), HasSubstr("\"matrix_efficiency\" is 1.5"));
  EXPECT_THAT(error_with("/memory_bandwidth", -1), HasSubstr("\"memory_bandwidth\""));
  EXPECT_THAT(error_with("/gpus_per_node", 0), HasSubstr("\"gpus_per_node\""));
  EXPECT_THAT(error_with("/link", "pcie4"), HasSubstr("\"link\" is not an object"));
  EXPECT_THAT(error_with("/link/bandwidth", 0), HasSubstr("\"link.bandwidth\" is 0"));
  EXPECT_THAT(error_with("/aliases", json::array({1})), HasSubstr("\"aliases\""));
  EXPECT_THAT(error_with("/memory_bandwith", 1), HasSubstr("did you mean \"memory_bandwidth\"?"));
  EXPECT_THAT(error_with("/fixed_device_bytes/driver", 1),
              HasSubstr("\"fixed_device_bytes.driver\" is unknown"));
  const json valid = valid_profile();
  for (const auto& field : valid.items()) {
    json object = valid;
    object.erase(field.key());
    EXPECT_THAT(error_of(ExitCode::bad_data, [&] { parse_hardware_profile(object, "card.json"); }),
                HasSubstr("\"" + field.key() + "\" is missing"));
  }
}

TEST(Hardware, FoldersThatHoldNoUsableProfileAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(ExitCode::missing_input, [&] { load_hardware_profiles(folder.path() / "none"); }),
              HasSubstr("none"));
  EXPECT_THAT(error_of(ExitCode::missing_input, [&] { load_hardware_profiles(folder.path()); }),
              HasSubstr("holds no .json"));
  folder.write("other.json", valid_profile().dump());
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { load_hardware_profiles(folder.path()); }),
              HasSubstr("unlike the file's"));
  std::filesystem::remove(folder.path() / "other.json");
  folder.write("card.json", valid_profile().dump());
  json twin = valid_profile();
  twin["name"] = "twin";
  twin["aliases"] = json::array({"The_Card"});
  folder.write("twin.json", twin.dump());
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { load_hardware_profiles(folder.path()); }),
              HasSubstr("two profiles are called \"the-card\""));
  folder.write("twin.json", "{");
  EXPECT_THAT(error_of(ExitCode::bad_data, [&] { load_hardware_profiles(folder.path()); }),
              HasSubstr("is not valid JSON"));
}

}  // namespace
}  // namespace autoglm
