// Everything that a person may ask autoglm-plan.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/options/option_table.h"
#include "sharding/strategy_pins.h"
#include "trainer/data/data_options.h"
#include "trainer/loop_options.h"

namespace autoglm {

struct PlanOptions {
  std::string model;  // a folder with config.json, or a name of the catalog
  std::string gpu = "a100-40gb";
  bool names_gpu = false;  // by the person
  std::int64_t ranks = 1;
  std::optional<std::int64_t> nodes;         // as many as the ranks need
  std::optional<std::int64_t> host_memory;   // bytes of a node
  std::string device_link, node_link;        // the profile's when empty
  std::optional<std::int64_t> node_links;    // adapters of a node: the profile's, or one of another node_link
  std::optional<std::int64_t> memory_limit;  // bytes of the device
  std::int64_t sequence_length = DataOptions().sequence_length;
  std::int64_t global_batch = LoopOptions().global_batch;
  Precision precision = Precision::bf16;
  StrategyPins pins;
  std::vector<std::int64_t> memory_tiers;  // GB; the tier table instead of a plan
  bool inference = false;
  std::int64_t batch = 1;
  std::optional<std::int64_t> context;  // tokens; 8192, or what the model has
  bool work = false;
  bool json = false;
  bool list = false;
};

class PlanCommandLine {
 public:
  PlanCommandLine();
  // Throws Error(usage).
  OptionRequest parse(const std::vector<std::string>& arguments);
  const PlanOptions& options() const { return options_; }
  std::string help(std::size_t columns = 100) const { return table_.help(columns); }

 private:
  PlanOptions options_;
  OptionTable table_;
};

}  // namespace autoglm
