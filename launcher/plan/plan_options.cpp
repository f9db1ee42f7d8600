#include "launcher/plan/plan_options.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launcher/options/strategy_options.h"

namespace autoglm {
namespace {

constexpr std::int64_t kMostRanks = 65'536;
constexpr std::int64_t kMostGigabytes = 100'000;
constexpr std::int64_t kMostNodeLinks = 64;

// "8,16,24": whole gigabytes.
Option tiers_option(std::vector<std::int64_t>& tiers) {
  Option option{"memory", "GB,GB,...", "what fits on devices of these sizes, as a table", ""};
  option.assign = [&tiers](std::string_view text, std::string_view spelled) {
    tiers.clear();
    for (std::string_view rest = text;;) {
      const std::size_t comma = rest.find(',');
      const std::string_view one = rest.substr(0, comma);
      if (one.empty()) refuse_value(spelled, "sizes in GB with commas between them", text);
      tiers.push_back(parse_integer(one, {1, kMostGigabytes}, spelled));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  };
  option.store = [&tiers](nlohmann::ordered_json& object) { object["memory"] = tiers; };
  return option;
}

void bind(OptionTable& table, PlanOptions& options) {
  table.begin_group("What");
  table.add_text("model", "DIR|NAME", options.model, "folder with a config.json, or a well-known name");
  table.add_text("gpu", "NAME", options.gpu, "device, as a100-40gb or rtx4090");
  table.add_integer("ranks", options.ranks, {1, kMostRanks}, "devices in all");
  table.add_integer("nodes", options.nodes, {1, kMostRanks}, "that the ranks are spread over",
                    "as few as hold them");
  table.add_bytes("host-memory", options.host_memory, "memory of one node", "the profile's, or enough");
  table.add_text("device-link", "NAME", options.device_link,
                 "between the devices of a node, as pcie4; the device's own otherwise");
  table.add_text("node-link", "NAME", options.node_link,
                 "between nodes, as infiniband-hdr or 10gbe; the usual one otherwise");
  table.add_integer("node-links", options.node_links, {1, kMostNodeLinks},
                    "adapters of that kind in a node, which its devices share",
                    "as the device's nodes usually have, or 1 with --node-link");
  table.add_bytes("memory-limit", options.memory_limit, "most bytes of the device that a rank may use",
                  "all that are free");
  table.add_flag("list", options.list, "print the names of models, devices and links");
  table.begin_group("Training");
  table.add_integer("sequence-length", options.sequence_length, {2, 1 << 20}, "tokens of a row");
  table.add_integer("global-batch", options.global_batch, {1, kMostRows}, "rows of a step over all ranks");
  table.add_choice<Precision>("precision", options.precision,
                              {{"bf16", Precision::bf16}, {"fp32", Precision::fp32}}, "arithmetic");
  table.begin_group("Strategy");
  bind_strategy_pins(table, options.pins);
  bind_inexact_pins(table, options.pins);
  table.begin_group("Tables");
  table.add(tiers_option(options.memory_tiers));
  table.add_flag("inference", options.inference, "weights and caches of inference, estimated");
  table.add_integer("batch", options.batch, {1, kMostRows}, "sequences at a time, for --inference");
  table.add_integer("context", options.context, {1, 1 << 24}, "tokens of each of them, for --inference",
                    "8192, or what the model has");
  table.begin_group("Output");
  table.add_flag("work", options.work, "also what the chosen step moves and computes, by kind");
  table.add_flag("json", options.json, "one JSON object instead of tables");
}

}  // namespace

PlanCommandLine::PlanCommandLine()
    : table_("autoglm-plan", "autoglm-plan --model DIR|NAME [--gpu NAME] [--ranks N] [options]",
             "Says what a full fine-tuning needs, which strategy would be chosen, and why. Needs no GPU, no "
             "MPI and no weights.") {
  bind(table_, options_);
}

OptionRequest PlanCommandLine::parse(const std::vector<std::string>& arguments) {
  const OptionRequest request = table_.parse(arguments);
  if (request != OptionRequest::run) return request;
  if (options_.model.empty() && !options_.list)
    fail(ExitCode::usage, "--model is missing; give a folder or a name of autoglm-plan --list");
  options_.names_gpu = table_.source("gpu") != OptionSource::default_value;
  settle_pins(table_, options_.pins, options_.precision);
  if (options_.nodes && *options_.nodes > options_.ranks)
    fail(ExitCode::usage, "{} {} is more than {} {}: every node needs a rank", table_.spelled("nodes"),
         *options_.nodes, table_.spelled("ranks"), options_.ranks);
  if (options_.inference && !options_.memory_tiers.empty())
    fail(ExitCode::usage, "{} and {} are two tables; ask for one of them", table_.spelled("inference"),
         table_.spelled("memory"));
  if (options_.work && (options_.inference || !options_.memory_tiers.empty()))
    fail(ExitCode::usage, "{} tells of a plan, not of {}", table_.spelled("work"),
         table_.spelled(options_.inference ? "inference" : "memory"));
  check_micro_batch(table_, options_.pins, options_.global_batch);
  return request;
}

}  // namespace autoglm
