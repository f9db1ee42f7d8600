#include "launcher/planner/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "launcher/planner/configs_folder.h"
#include "launcher/planner/memory_budget.h"
#include "launcher/planner/rates.h"
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
    "link": {"name": "pcie4", "bandwidth": 1e10}, "gpus_per_node": 2, "node_link": "10gbe", "node_links": 3,
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
  for (const auto& [driver, name] :
       std::vector<std::pair<const char*, const char*>>{{"NVIDIA A100-PCIE-40GB", "a100-40gb-pcie"},
                                                        {"NVIDIA A100 80GB PCIe", "a100-80gb-pcie"},
                                                        {"NVIDIA A800-SXM4-80GB", "a800-80gb"},
                                                        {"NVIDIA A800 80GB PCIe", "a100-80gb-pcie"},
                                                        {"NVIDIA H100 80GB HBM3", "h100-80gb"},
                                                        {"NVIDIA H100 PCIe", "h100-pcie"},
                                                        {"NVIDIA H800", "h800"},
                                                        {"NVIDIA L40S", "l40s"},
                                                        {"NVIDIA L4", "l4"},
                                                        {"NVIDIA A10", "a10"},
                                                        {"NVIDIA A10G", "a10g"},
                                                        {"NVIDIA GeForce RTX 5090", "rtx5090"},
                                                        {"Tesla T4", "t4"},
                                                        {"Tesla V100-SXM2-16GB", "v100-16gb"},
                                                        {"Tesla V100-SXM2-32GB", "v100-32gb"},
                                                        {"Tesla V100-PCIE-16GB", "v100-16gb-pcie"},
                                                        {"Tesla V100-PCIE-32GB", "v100-32gb-pcie"}})
    EXPECT_EQ(find_hardware(known, driver).name, name);
  EXPECT_EQ(find_hardware_or_null(known, "Voodoo 2"), nullptr);
}

// A profile may promise less than the label on the card, never more.
TEST(Hardware, MemoryIsBelowTheNominalSizeAndNearIt) {
  const std::pair<const char*, double> nominal[] = {
      {"a100-40gb", 40},
      {"a100-80gb", 80},
      {"h100-80gb", 80},
      {"h200", 141},
      {"a6000", 48},
      {"rtx3090", 24},
      {"rtx4090", 24},
      {"generic-8gb", 8},
      {"generic-16gb", 16},
      {"generic-24gb", 24},
      {"generic-48gb", 48},
      {"a100-40gb-pcie", 40},
      {"a100-80gb-pcie", 80},
      {"a800-80gb", 80},
      {"h100-pcie", 80},
      {"h800", 80},
      {"l40s", 48},
      {"l4", 24},
      {"a10", 24},
      {"a10g", 24},
      {"rtx5090", 32},
      {"t4", 16},
      {"v100-16gb", 16},
      {"v100-16gb-pcie", 16},
      {"v100-32gb", 32},
      {"v100-32gb-pcie", 32},
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
    const bool has_bf16 = std::stoi(profile.architecture.substr(3)) >= 80;
    EXPECT_EQ(profile.matrix_flops_bf16.has_value(), has_bf16);
    EXPECT_GT(profile.matrix_flops_bf16.value_or(2e13), 1e13);
    EXPECT_LT(profile.matrix_flops_bf16.value_or(2e13), 3e15);
    EXPECT_LE(profile.matrix_flops_fp32, profile.matrix_flops_bf16.value_or(2e13));
    EXPECT_GE(profile.node_links, 1);
    EXPECT_LE(profile.node_links, profile.gpus_per_node);
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

// What tells cards apart that share a name but for its ending.
TEST(Hardware, CardsOnPcieAndBehindLimitedNvlinkAreSlowerThanTheirSiblings) {
  const std::vector<HardwareProfile> known = profiles();
  for (const auto& [slow, fast] :
       std::vector<std::pair<const char*, const char*>>{{"a100-40gb-pcie", "a100-40gb"},
                                                        {"a100-80gb-pcie", "a100-80gb"},
                                                        {"a800-80gb", "a100-80gb"},
                                                        {"h100-pcie", "h100-80gb"},
                                                        {"h800", "h100-80gb"},
                                                        {"v100-16gb-pcie", "v100-16gb"},
                                                        {"v100-32gb-pcie", "v100-32gb"}})
    EXPECT_LT(find_hardware(known, slow).link.bandwidth, 0.7 * find_hardware(known, fast).link.bandwidth)
        << slow;
  EXPECT_LT(*find_hardware(known, "h100-pcie").matrix_flops_bf16,
            0.8 * *find_hardware(known, "h100-80gb").matrix_flops_bf16);
}

TEST(Hardware, NodesHaveTheAdaptersThatTheirRanksCanUse) {
  const HardwareProfile card = find_hardware(profiles(), "a100-80gb");
  const LinkProfile adapter{"some", LinkProfile::Between::nodes, 1e9, 1e-6};
  const LinkProfile devices{"any", LinkProfile::Between::devices, 2e11, 1e-6, 1e10};
  const auto bandwidth = [&](int ranks, int nodes) {
    return rates_of(card, {ranks, nodes}, devices, adapter, Precision::bf16).link_bandwidth;
  };
  EXPECT_EQ(bandwidth(8, 1), card.link.bandwidth);
  EXPECT_EQ(bandwidth(16, 2), 8e9);
  EXPECT_EQ(bandwidth(8, 2), 4e9);
  EXPECT_EQ(bandwidth(2, 2), 1e9);
  EXPECT_EQ(bandwidth(32, 2), 8e9);
  HardwareProfile one = card;
  one.node_links = 1;
  EXPECT_EQ(rates_of(one, {16, 2}, devices, adapter, Precision::bf16).link_bandwidth, 1e9);
}

// Gathers take all of NCCL's channels, messages eight of them.
TEST(Hardware, MessagesAreAsFastAsTheirChannels) {
  const std::vector<LinkProfile> links = load_links(configs_folder() / "links.json");
  const auto rates = [&](const char* name, int ranks, int nodes) {
    const HardwareProfile card = find_hardware(profiles(), name);
    return rates_of(card, {ranks, nodes}, find_link(links, card.link.name), find_link(links, card.node_link),
                    Precision::bf16);
  };
  EXPECT_EQ(rates("a100-40gb", 8, 1).link_bandwidth, 230e9);
  EXPECT_EQ(rates("a100-40gb", 8, 1).message_bandwidth, 8 * 9.6e9);
  EXPECT_EQ(rates("h100-80gb", 8, 1).message_bandwidth, 8 * 15e9);
  // Adapters and PCIe are narrower than eight channels.
  EXPECT_EQ(rates("h100-pcie", 8, 1).message_bandwidth, rates("h100-pcie", 8, 1).link_bandwidth);
  EXPECT_EQ(rates("a100-40gb-pcie", 16, 2).message_bandwidth, 18e9);
}

TEST(Hardware, DriversMayKeepALittleMore) {
  const HardwareProfile card = find_hardware(profiles(), "rtx4090");
  const std::int64_t fixed = fixed_bytes(card, 1);
  const auto margin = static_cast<double>(card.memory_bytes - fixed - budget_of(card, {1, 1}, {}).device);
  EXPECT_NEAR(margin / static_cast<double>(card.memory_bytes), 0.005, 1e-4);
  const ClusterShape shape{8, 2};
  const std::int64_t host = std::int64_t{90} << 30;
  EXPECT_EQ(budget_of(card, shape, node_memory_for(host, shape)).host, host);
}

TEST(Hardware, MessagesBetweenRanksTakeMemoryByPeers) {
  const auto messages = [](const char* name, int ranks) {
    const HardwareProfile card = find_hardware(profiles(), name);
    return fixed_bytes(card, ranks) - fixed_bytes(card, 1) - card.fixed_device_bytes.nccl;
  };
  EXPECT_EQ(messages("a100-40gb", 2), 120'000'000);
  EXPECT_EQ(messages("a100-40gb", 8), 7 * 120'000'000);
  EXPECT_EQ(messages("a100-40gb", 16), 9 * 120'000'000);
  EXPECT_EQ(messages("l4", 8), 7 * 30'000'000);
  const HardwareProfile card = find_hardware(profiles(), "a100-40gb");
  EXPECT_EQ(fixed_bytes(card, 8, ReduceScatter::nccl), fixed_bytes(card, 1) + card.fixed_device_bytes.nccl);
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
  EXPECT_EQ(profile.node_links, 3);
  EXPECT_EQ(profile.host_memory_bytes, 64000000000);
  EXPECT_EQ(profile.host_memory_bandwidth, 5e10);
  EXPECT_EQ(profile.fixed_device_bytes.context, 500000000);
  EXPECT_EQ(profile.fixed_device_bytes.nccl, 200000000);
  EXPECT_EQ(profile.fixed_device_bytes.cublas, 30000000);
  EXPECT_EQ(profile.multiprocessors, std::nullopt);
  json large = valid_profile();
  large["multiprocessors"] = 148;
  EXPECT_EQ(parse_hardware_profile(large, "card.json").multiprocessors, 148);
  json old = valid_profile();
  old["matrix_flops_bf16"] = nullptr;
  EXPECT_EQ(parse_hardware_profile(old, "card.json").matrix_flops_bf16, std::nullopt);
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
