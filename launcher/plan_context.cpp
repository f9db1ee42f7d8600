#include "launcher/plan_context.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/planner/model_catalog.h"
#include "sharding/base/error.h"

namespace autoglm {
namespace {

ClusterShape shape_of(const PlanContext& context, int ranks) {
  ClusterShape wider = context.shape;
  wider.ranks = ranks;
  const int per_node = static_cast<int>(
      std::max<std::int64_t>(context.hardware.gpus_per_node, context.shape.ranks_per_node()));
  if (ranks != context.shape.ranks) wider.nodes = (ranks + per_node - 1) / per_node;
  return wider;
}

ModelConfig read_model(const std::string& name, const std::filesystem::path& configs) {
  const std::filesystem::path folder(name);
  std::filesystem::path file = std::filesystem::is_directory(folder) ? folder / "config.json" : folder;
  const bool names_a_file = std::filesystem::is_directory(folder) || file.extension() == ".json";
  if (!names_a_file) return ModelCatalog(configs / "models").find(name);
  std::ifstream stream(file);
  if (!stream)
    fail(ExitCode::missing_input,
         "{} cannot be read; --model takes a folder with a config.json, or a "
         "name of autoglm-plan --list",
         file.string());
  const nlohmann::json config = nlohmann::json::parse(stream, nullptr, false);
  if (config.is_discarded()) fail(ExitCode::bad_data, "{} is not valid JSON", file.string());
  return parse_model_config(config, file.string());
}

}  // namespace

MemoryBudget PlanContext::budget(int ranks) const {
  MemoryBudget result = budget_of(hardware, shape_of(*this, ranks), host_memory);
  if (options.memory_limit) result.device = std::min(result.device, *options.memory_limit);
  return result;
}

MemoryQuestion PlanContext::question() const {
  MemoryQuestion result;
  result.model = model;
  result.bf16 = options.bf16;
  result.row_length = options.sequence_length;
  result.world_size = shape.ranks;
  result.target = ops::Target::cuda;
  return result;
}

PlanWish PlanContext::wish() const {
  return {question(), rates_of(hardware, shape, node_link, options.bf16), options.global_batch,
          [this](int ranks) { return budget(ranks); }, options.memory_limit ? "--memory-limit" : ""};
}

PlanContext plan_context(const PlanOptions& options, const std::filesystem::path& configs) {
  PlanContext context;
  context.options = options;
  const std::vector<HardwareProfile> profiles = load_hardware_profiles(configs / "hardware");
  context.hardware = find_hardware(profiles, options.gpu);
  for (const HardwareProfile& one : profiles) context.known_memories.push_back(one.memory_bytes);
  const std::vector<LinkProfile> links = load_links(configs / "links.json");
  context.node_link =
      find_link(links, options.node_link.empty() ? context.hardware.node_link : options.node_link);
  context.model = read_model(options.model, configs);
  if (options.inference) {
    check_positions(context.model, "--context", options.context);
  } else {
    check_positions(context.model, "--sequence-length", options.sequence_length);
  }
  context.shape.ranks = static_cast<int>(options.ranks);
  const std::int64_t fewest =
      (options.ranks + context.hardware.gpus_per_node - 1) / context.hardware.gpus_per_node;
  context.shape.nodes = static_cast<int>(options.nodes.value_or(fewest));
  context.host_memory = options.host_memory ? options.host_memory : context.hardware.host_memory_bytes;
  return context;
}

}  // namespace autoglm
