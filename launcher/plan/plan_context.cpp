#include "launcher/plan/plan_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/math.h"
#include "checkpoint/model_folder.h"
#include "launcher/options/strategy_options.h"
#include "launcher/plan/plan_instead.h"
#include "launcher/planner/model_catalog.h"
#include "launcher/planner/rates.h"

namespace autoglm {
namespace {

constexpr std::int64_t kInferenceContext = 8192;

ClusterShape shape_of(const PlanContext& context, int ranks) {
  ClusterShape wider = context.shape;
  wider.ranks = ranks;
  const int per_node = static_cast<int>(
      std::max<std::int64_t>(context.hardware.gpus_per_node, context.shape.ranks_per_node()));
  if (ranks != context.shape.ranks) wider.nodes = divide_up(ranks, per_node);
  return wider;
}

ModelConfig read_model(const std::string& name, const std::filesystem::path& configs) {
  const std::filesystem::path folder(name);
  const bool names_a_folder = name.find('/') != name.rfind('/') || name.find_first_of("/.~") == 0;
  if (std::filesystem::is_directory(folder)) require_model_folder(folder);
  std::filesystem::path file = std::filesystem::is_directory(folder) ? folder / "config.json" : folder;
  const bool names_a_file = std::filesystem::is_directory(folder) || file.extension() == ".json";
  if (!names_a_file && names_a_folder)
    fail(ExitCode::missing_input,
         "--model {} is no folder with a config.json; well-known models go by the names of autoglm-plan "
         "--list",
         name);
  if (!names_a_file) return ModelCatalog(configs / "models").find(name);
  try {
    return parse_model_config(read_json_file(file), file.string());
  } catch (const Error& error) {
    if (error.code() != ExitCode::missing_input) throw;
    fail(error.code(), "{}; --model takes a folder with a config.json, or a name of autoglm-plan --list",
         error.what());
  }
}

void require_between(const LinkProfile& link, LinkProfile::Between between, std::string_view option) {
  if (link.between == between) return;
  const bool nodes = between == LinkProfile::Between::nodes;
  fail(ExitCode::usage, "{} {} connects {}; autoglm-plan --list has those between {}", option, link.name,
       nodes ? "the devices of one node" : "nodes", nodes ? "nodes" : "devices");
}

}  // namespace

MemoryBudget PlanContext::budget(int ranks) const {
  MemoryBudget result = budget_of(hardware, shape_of(*this, ranks), host_memory, options.pins.reduce_scatter);
  if (options.memory_limit) result.device = std::min(result.device, *options.memory_limit);
  return result;
}

MemoryQuestion PlanContext::question() const {
  MemoryQuestion result;
  result.model = model;
  result.precision = options.precision;
  result.row_length = options.sequence_length;
  result.world_size = shape.ranks;
  result.target = ops::Target::cuda;
  result.multiprocessors = hardware.multiprocessors.value_or(result.multiprocessors);
  return result;
}

PlanWish PlanContext::wish() const {
  PlanWish result{
      question(),
      rates_of(hardware, shape, find_link(links, hardware.link.name), node_link, options.precision),
      options.global_batch, [this](int ranks) { return budget(ranks); }};
  if (options.memory_limit) {
    result.limited_by = "--memory-limit";
    result.unlimited = budget_of(hardware, shape, host_memory, options.pins.reduce_scatter);
  }
  result.ranks_text = [this](int ranks) {
    return options.nodes ? fmt::format("--ranks {} --nodes {}", ranks, shape_of(*this, ranks).nodes)
                         : fmt::format("--ranks {}", ranks);
  };
  result.ranks_per_node = static_cast<int>(hardware.gpus_per_node);
  result.host_text = [this](std::int64_t bytes) {
    return fmt::format("--host-memory {}GiB",
                       divide_up(node_memory_for(bytes, shape), std::int64_t{1} << 30));
  };
  result.instead = [this] { return what_fits_instead(*this); };
  return result;
}

PlanContext PlanContext::on(const HardwareProfile& card) const {
  PlanContext context = *this;
  context.hardware = card;
  HardwareProfile& hardware = context.hardware;
  if (!options.inference && options.precision == Precision::bf16 && !hardware.matrix_flops_bf16)
    fail(ExitCode::usage,
         "{} ({}) has no bf16 arithmetic, which begins with sm_80: plan for --precision fp32, or for another "
         "--gpu",
         hardware.description, hardware.architecture);
  // The card's own figure for a link of that name may be lower: not every card may use all of it.
  if (!options.device_link.empty()) {
    const LinkProfile& link = find_link(links, options.device_link);
    require_between(link, LinkProfile::Between::devices, "--device-link");
    if (link.name != hardware.link.name) hardware.link = {link.name, link.bandwidth};
  }
  context.node_link = find_link(links, options.node_link.empty() ? hardware.node_link : options.node_link);
  require_between(context.node_link, LinkProfile::Between::nodes, "--node-link");
  if (context.node_link.name != hardware.node_link) hardware.node_links = 1;
  if (options.node_links) hardware.node_links = *options.node_links;
  context.shape.ranks = static_cast<int>(options.ranks);
  const std::int64_t fewest = divide_up(options.ranks, hardware.gpus_per_node);
  context.shape.nodes = static_cast<int>(options.nodes.value_or(fewest));
  context.host_memory = options.host_memory ? options.host_memory : hardware.host_memory_bytes;
  return context;
}

PlanContext plan_context(const PlanOptions& options, const std::filesystem::path& configs) {
  PlanContext context;
  context.options = options;
  context.configs = configs;
  context.profiles = load_hardware_profiles(configs / "hardware");
  context.links = load_links(configs / "links.json");
  context = context.on(find_hardware(context.profiles, options.gpu));
  context.model = read_model(options.model, configs);
  if (!options.inference) {
    check_positions(context.model, "--sequence-length", options.sequence_length);
  } else if (options.context) {
    check_positions(context.model, "--context", *options.context);
  }
  context.inference_context = options.context.value_or(
      std::min(kInferenceContext, context.model.position_limit().value_or(kInferenceContext)));
  check_recompute_layers(options.pins, context.model.num_layers);
  return context;
}

}  // namespace autoglm
