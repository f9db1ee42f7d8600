#include "launcher/planner/hardware.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/json.h"
#include "base/json_fields.h"
#include "launcher/planner/config_files.h"

namespace autoglm {
namespace {

bool is_architecture(std::string_view text) {
  return text.size() > 3 && text.starts_with("sm_") &&
         text.find_first_not_of("0123456789", 3) == std::string_view::npos;
}

// Two profiles that answer to one name would make the choice depend on their order.
void require_distinct_names(std::span<const HardwareProfile> profiles, const std::string& where) {
  std::set<std::string> seen;
  for (const HardwareProfile& profile : profiles) {
    std::set<std::string> own = {comparable_name(profile.name)};
    for (const std::string& alias : profile.aliases) own.insert(comparable_name(alias));
    for (const std::string& name : own) {
      if (!seen.insert(name).second)
        fail(ExitCode::bad_data, "{}: two profiles are called \"{}\"", where, name);
    }
  }
}

std::vector<std::string> names_of(std::span<const HardwareProfile> profiles) {
  std::vector<std::string> names;
  for (const HardwareProfile& profile : profiles) names.push_back(profile.name);
  return names;
}

}  // namespace

HardwareProfile parse_hardware_profile(const nlohmann::json& object, const std::string& where) {
  const JsonFields fields(object, where);
  HardwareProfile profile;
  profile.name = fields.text("name");
  profile.aliases = fields.texts("aliases");
  profile.description = fields.text("description");
  profile.source = fields.text("source");
  profile.sold_as_gb = fields.count("sold_as_gb");
  profile.memory_bytes = fields.bytes("memory_bytes");
  profile.architecture = fields.text("architecture");
  if (!is_architecture(profile.architecture)) fields.wrong("architecture", "an architecture such as sm_80");
  if (fields.has("multiprocessors"))
    profile.multiprocessors = static_cast<int>(fields.positive("multiprocessors"));
  if (!fields.is_null("matrix_flops_bf16"))
    profile.matrix_flops_bf16 = fields.positive_number("matrix_flops_bf16");
  profile.matrix_flops_fp32 = fields.positive_number("matrix_flops_fp32");
  profile.matrix_efficiency = fields.fraction("matrix_efficiency");
  profile.memory_bandwidth = fields.positive_number("memory_bandwidth");
  profile.host_link_bandwidth = fields.positive_number("host_link_bandwidth");
  const JsonFields link = fields.object("link");
  profile.link = {link.text("name"), link.positive_number("bandwidth")};
  link.finish();
  profile.gpus_per_node = fields.count("gpus_per_node");
  profile.node_link = fields.text("node_link");
  profile.node_links = fields.count("node_links");
  if (!fields.is_null("host_memory_bytes")) profile.host_memory_bytes = fields.bytes("host_memory_bytes");
  profile.host_memory_bandwidth = fields.positive_number("host_memory_bandwidth");
  const JsonFields fixed = fields.object("fixed_device_bytes");
  profile.fixed_device_bytes = {fixed.bytes("context"), fixed.bytes("nccl"), fixed.bytes("cublas")};
  fixed.finish();
  fields.finish();
  const FixedDeviceBytes& bytes = profile.fixed_device_bytes;
  if (bytes.context + bytes.nccl + bytes.cublas >= profile.memory_bytes)
    fields.wrong("memory_bytes", "more than the fixed bytes together");
  return profile;
}

std::vector<HardwareProfile> load_hardware_profiles(const std::filesystem::path& directory) {
  std::vector<HardwareProfile> profiles;
  for (const std::filesystem::path& file : list_config_files(directory)) {
    profiles.push_back(parse_hardware_profile(read_json_file(file), file.string()));
    if (profiles.back().name != file.stem().string())
      fail(ExitCode::bad_data, "{}: \"name\" is \"{}\", unlike the file's", file.string(),
           profiles.back().name);
  }
  require_distinct_names(profiles, directory.string());
  std::sort(profiles.begin(), profiles.end(), [](const auto& left, const auto& right) {
    return std::tie(left.memory_bytes, left.name) < std::tie(right.memory_bytes, right.name);
  });
  return profiles;
}

const HardwareProfile* find_hardware_or_null(std::span<const HardwareProfile> profiles,
                                             std::string_view name) {
  const std::string wanted = comparable_name(name);
  for (const HardwareProfile& profile : profiles) {
    if (comparable_name(profile.name) == wanted) return &profile;
    for (const std::string& alias : profile.aliases)
      if (comparable_name(alias) == wanted) return &profile;
  }
  return nullptr;
}

const HardwareProfile& find_hardware(std::span<const HardwareProfile> profiles, std::string_view name) {
  const HardwareProfile* found = find_hardware_or_null(profiles, name);
  if (found != nullptr) return *found;
  std::vector<std::string> aliases;
  for (const HardwareProfile& profile : profiles)
    aliases.insert(aliases.end(), profile.aliases.begin(), profile.aliases.end());
  fail_unknown_name("GPU", name, names_of(profiles), aliases);
}

std::vector<LinkProfile> load_links(const std::filesystem::path& file) {
  const nlohmann::json links = read_json_file(file);
  if (!links.is_object()) fail(ExitCode::bad_data, "{} does not hold a JSON object", file.string());
  std::vector<LinkProfile> result;
  for (const auto& [name, object] : links.items()) {
    const JsonFields fields(object, file.string(), name + ".");
    LinkProfile link;
    link.name = name;
    const std::string between = fields.text("between");
    if (between != "devices" && between != "nodes") fields.wrong("between", "\"devices\" or \"nodes\"");
    link.between = between == "nodes" ? LinkProfile::Between::nodes : LinkProfile::Between::devices;
    link.bandwidth = fields.positive_number("bandwidth");
    link.latency = fields.positive_number("latency");
    if (between == "devices") link.channel_bandwidth = fields.positive_number("channel_bandwidth");
    fields.finish();
    result.push_back(std::move(link));
  }
  if (result.empty()) fail(ExitCode::bad_data, "{} holds no link", file.string());
  return result;
}

const LinkProfile& find_link(std::span<const LinkProfile> links, std::string_view name) {
  const std::string wanted = comparable_name(name);
  std::vector<std::string> names;
  for (const LinkProfile& link : links) {
    if (comparable_name(link.name) == wanted) return link;
    names.push_back(link.name);
  }
  fail_unknown_name("link", name, names);
}

}  // namespace autoglm
