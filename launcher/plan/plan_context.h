// What a plan is asked for: the answer's model, devices and how they are connected.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "launcher/plan/plan_options.h"
#include "launcher/planner/changes.h"
#include "launcher/planner/hardware.h"

namespace autoglm {

struct PlanContext {
  PlanOptions options;
  ModelConfig model;
  HardwareProfile hardware;
  std::filesystem::path configs;
  std::vector<HardwareProfile> profiles;
  std::vector<LinkProfile> links;
  LinkProfile node_link;
  ClusterShape shape;
  std::optional<std::int64_t> host_memory;  // bytes of a node
  std::int64_t inference_context = 0;       // tokens

  // The same question of another card and the nodes that it usually sits in. Throws Error: usage where the card
  // lacks the arithmetic that is asked for.
  PlanContext on(const HardwareProfile& card) const;

  // What one rank among so many may use; beyond the asked-for number, nodes are filled.
  MemoryBudget budget(int ranks) const;
  MemoryQuestion question() const;
  // Refers to this object.
  PlanWish wish() const;
};

// Reads profiles, links and the model from `configs` (or the model from its folder). Throws Error: usage for
// unknown names, missing_input and bad_data for a config.json.
PlanContext plan_context(const PlanOptions& options, const std::filesystem::path& configs);

}  // namespace autoglm
