#include "launcher/plan/plan_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/units.h"
#include "launcher/plan/plan_context.h"
#include "launcher/planner/changes.h"
#include "launcher/planner/configs_folder.h"
#include "launcher/planner/estimates.h"
#include "launcher/planner/hardware.h"
#include "launcher/planner/model_catalog.h"
#include "launcher/planner/plan_text.h"
#include "launcher/planner/rates.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGigabyte = 1'000'000'000;
constexpr int kBarColumns = 40;

std::string parameters_text(double count) {
  return count >= 1e9 ? fmt::format("{:.2f} billion", count / 1e9)
                      : fmt::format("{:.1f} million", count / 1e6);
}

std::string header(const PlanContext& context) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  const Model model = make_model(context.model);
  const std::int64_t idle = context.shape.ranks - context.options.global_batch;
  return fmt::format(
      "{}: {}, {} parameters, {}; steps of {} rows of {} tokens{}\n{} x {}{}: {} each, {} for tensors; host "
      "memory {}\n",
      context.options.model, context.model.model_type,
      parameters_text(static_cast<double>(model.num_parameters())), precision_name(context.options.precision),
      context.options.global_batch, context.options.sequence_length,
      idle > 0 ? fmt::format(", which leave {} of {} ranks without a row (--global-batch)", idle,
                             context.shape.ranks)
               : "",
      context.shape.ranks, context.hardware.description,
      context.shape.nodes > 1 ? fmt::format(" on {} nodes ({})", context.shape.nodes, context.node_link.name)
                              : "",
      format_bytes(context.hardware.memory_bytes), format_bytes(budget.device),
      budget.host ? fmt::format("{} per rank", format_bytes(*budget.host)) : "not known, taken as enough");
}

// A line per category, with a bar.
std::string bars(const MemoryUse& use, std::int64_t budget, bool color) {
  std::string text;
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    const auto category = static_cast<MemoryCategory>(i);
    if (use[category] <= 0) continue;
    const double share =
        static_cast<double>(use[category]) / static_cast<double>(std::max<std::int64_t>(budget, 1));
    const int length = std::clamp(static_cast<int>(share * kBarColumns + 0.5), 0, kBarColumns);
    text += fmt::format("    {:<12}{:>11}  {}{}{}\n", category_name(category), format_bytes(use[category]),
                        color ? "\033[36m" : "", std::string(static_cast<std::size_t>(length), '#'),
                        color ? "\033[0m" : "");
  }
  return text;
}

std::string schedule_text(const Strategy& strategy) {
  return fmt::format("micro-batch {}, {}", strategy.micro_batch, describe_strategy(strategy));
}

double utilization(const PlanContext& context, Search& search, const Candidate& one) {
  const double rate = tokens_per_second(one, context.question(), context.options.global_batch);
  return search.times().model_flops_utilization(rate / context.shape.ranks);
}

bool is_chosen(const Candidate& one, const Plan& plan) {
  return schedule_text(one.strategy) == schedule_text(plan.chosen.strategy);
}

std::string table(const PlanContext& context, Search& search, const Plan& plan) {
  std::string text =
      fmt::format("\n  {:<50} {:>10} {:>10} {:>9} {:>6}\n", "strategy", "device", "host", "tokens/s", "MFU");
  for (const Candidate& one : plan.alternatives) {
    const bool chosen = is_chosen(one, plan);
    text += fmt::format("{} {}\n  {:<50} {:>10} {:>10} {:>9.0f} {:>5.1f}%  {}\n", chosen ? "*" : " ",
                        schedule_text(one.strategy), "", format_bytes(one.price.device.total),
                        format_bytes(one.price.host.total),
                        tokens_per_second(one, context.question(), context.options.global_batch),
                        100 * utilization(context, search, one),
                        chosen ? "chosen" : reason_lost(one, plan.chosen));
  }
  return text;
}

// What the chosen plan would need with one quantity doubled.
std::string doubled(const PlanContext& context, Search& search, const Plan& plan) {
  const auto line = [&](std::string_view what, const Candidate& one) {
    std::string text = fmt::format("  {:<28}{:>11} ({} more)", what, format_bytes(one.price.device.total),
                                   format_bytes(one.price.device.total - plan.chosen.price.device.total));
    if (one.device_missing > 0) text += fmt::format(", {} too many", format_bytes(one.device_missing));
    if (one.host_missing > 0)
      text += fmt::format(", {} too many on the host", format_bytes(one.host_missing));
    return text + (one.fits() ? ", fits" : "");
  };
  Strategy batch = plan.chosen.strategy;
  batch.micro_batch *= 2;
  std::string text = line("twice the micro-batch", search.judge_closely(batch));
  const std::int64_t rows = batch.micro_batch * context.shape.ranks;
  if (rows > context.options.global_batch) text += fmt::format(" (with --global-batch {})", rows);

  MemoryQuestion longer = context.question();
  longer.row_length *= 2;
  const std::optional<std::int64_t> positions = context.model.position_limit();
  if (positions && longer.row_length > *positions)
    return text + fmt::format("\n  {:<28}more than the model's {} positions\n", "twice the sequence length",
                              *positions);
  MemoryModel memory(longer);
  const PlanWish wish = context.wish();
  Search longer_search(memory, wish.rates, context.options.pins, wish.global_batch,
                       wish.budget(context.shape.ranks));
  return text + "\n" + line("twice the sequence length", longer_search.judge_closely(plan.chosen.strategy)) +
         "\n";
}

std::string nearest(const Plan& plan, const std::vector<OptIn>& options) {
  std::string text;
  const double now = plan.chosen.time.total();
  for (const OptIn& one : options) {
    const Candidate& other = one.plan.chosen;
    text += fmt::format("  {}: {:+.0f} % tokens/s, {} on the device, {} on the host ({})\n", one.option,
                        100 * (now / other.time.total() - 1), format_bytes(other.price.device.total),
                        format_bytes(other.price.host.total), schedule_text(other.strategy));
  }
  return text.empty() ? "" : "nearest changes, which change last bits:\n" + text;
}

std::string margins(const PlanContext& context, const Plan& plan) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  const MemoryStatistics& predicted = plan.predicted;
  std::string text = fmt::format(
      "device: {} of {} at the peak, in the {} phase, and {} of gaps between tensors; {} to spare\n",
      format_bytes(predicted.device.peak.total), format_bytes(budget.device),
      phase_name(plan.chosen.price.device_phase),
      format_bytes(predicted.device.extent - predicted.device.peak.total),
      format_bytes(budget.device - predicted.device.extent));
  text += bars(predicted.device.peak, budget.device, context.color);
  if (predicted.host.peak.total > 0) {
    const std::int64_t node = predicted.host.extent * context.shape.ranks_per_node();
    text += fmt::format(
        "host: {} per rank, {} per node{}\n", format_bytes(predicted.host.peak.total), format_bytes(node),
        budget.host
            ? fmt::format("; {} to spare per rank", format_bytes(*budget.host - predicted.host.extent))
            : "");
    text += bars(predicted.host.peak, budget.host.value_or(predicted.host.peak.total), context.color);
  }
  return text;
}

void add_budget(nlohmann::ordered_json& object, const MemoryBudget& budget) {
  object["device_budget_bytes"] = budget.device;
  object["host_budget_bytes"] = nullptr;
  if (budget.host) object["host_budget_bytes"] = *budget.host;
}

nlohmann::ordered_json plan_json(const PlanContext& context, Search& search, const Plan& plan,
                                 const std::vector<OptIn>& options) {
  const MemoryQuestion question = context.question();
  const auto candidate = [&](const Candidate& one) {
    nlohmann::ordered_json object = to_json(one, question, context.options.global_batch);
    object["estimated_mfu"] = utilization(context, search, one);
    return object;
  };
  nlohmann::ordered_json object = {{"model", context.options.model},
                                   {"gpu", context.hardware.name},
                                   {"ranks", context.shape.ranks},
                                   {"nodes", context.shape.nodes},
                                   {"fits", true}};
  add_budget(object, context.budget(context.shape.ranks));
  object["chosen"] = candidate(plan.chosen);
  object["predicted_device_peak_bytes"] = plan.predicted.device.peak.total;
  object["predicted_device_bytes_at_peak"] = bytes_by_category(plan.predicted.device.peak);
  object["predicted_host_peak_bytes"] = plan.predicted.host.peak.total;
  object["predicted_host_bytes_at_peak"] = bytes_by_category(plan.predicted.host.peak);
  object["candidates_priced"] = plan.num_priced;
  object["overruns"] = plan.overruns;
  for (const Candidate& one : plan.alternatives) {
    object["alternatives"].push_back(candidate(one));
    const bool chosen = is_chosen(one, plan);
    object["alternatives"].back()["chosen"] = chosen;
    if (!chosen) object["alternatives"].back()["lost"] = reason_lost(one, plan.chosen);
  }
  object["opt_ins"] = nlohmann::ordered_json::array();
  for (const OptIn& one : options)
    object["opt_ins"].push_back({{"option", one.option}, {"plan", candidate(one.plan.chosen)}});
  return object;
}

std::string answer_training(const PlanContext& context, int& exit_code) {
  MemoryModel memory(context.question());
  const PlanWish wish = context.wish();
  Search search(memory, wish.rates, context.options.pins, wish.global_batch,
                wish.budget(context.shape.ranks));
  const std::optional<Plan> plan = search.run();
  if (!plan) {
    exit_code = static_cast<int>(ExitCode::does_not_fit);
    const std::string why = why_nothing_fits(search, context.options.pins, wish);
    if (!context.options.json) return header(context) + "\n" + why + "\n";
    nlohmann::ordered_json object = {{"model", context.options.model}, {"fits", false}, {"why", why}};
    add_budget(object, wish.budget(context.shape.ranks));
    object["nearest"] = nullptr;
    if (search.nearest())
      object["nearest"] = to_json(*search.nearest(), context.question(), context.options.global_batch);
    return object.dump(2) + "\n";
  }
  const std::vector<OptIn> options = opt_ins(memory, context.options.pins, wish);
  if (context.options.json) return plan_json(context, search, *plan, options).dump(2) + "\n";
  return header(context) + table(context, search, *plan) + "\n" + margins(context, *plan) +
         doubled(context, search, *plan) + nearest(*plan, options);
}

// Full fine-tuning on a device of so many GB, with and without the host's help.
struct Tier {
  std::int64_t gigabytes = 0;
  std::optional<Plan> plain, offloaded;
};

// Of cards sold with so many GB, where a profile tells; else the number itself.
std::int64_t bytes_of_tier(const PlanContext& context, std::int64_t gigabytes) {
  const auto known = context.sold_memories.find(gigabytes);
  return known != context.sold_memories.end() ? known->second : gigabytes * kGigabyte;
}

Tier plan_tier(PlanContext context, std::int64_t gigabytes, MemoryModel& memory) {
  context.hardware.memory_bytes = bytes_of_tier(context, gigabytes);
  const auto plan = [&](bool offloads) {
    StrategyPins pins = context.options.pins;
    if (!offloads) {
      pins.offload_optimizer = 0;
      pins.offload_activations = 0;
    }
    const PlanWish wish = context.wish();
    Search search(memory, wish.rates, pins, wish.global_batch, context.budget(context.shape.ranks));
    if (!offloads)
      search.restrict_to([](const Strategy& one) { return one.weights != WeightSourceKind::host; });
    return search.run();
  };
  return {gigabytes, plan(false), plan(true)};
}

std::string answer_tiers(const PlanContext& context) {
  MemoryModel memory(context.question());
  const AdapterEstimate adapters = estimate_adapters(memory);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::string text =
      fmt::format("{}\n  {:>6}  {:<34} {:<44} {:<10} {:<10}\n", header(context), "device", "full fine-tuning",
                  "with host memory (per rank)", "LoRA (est.)", "QLoRA (est.)");
  for (const std::int64_t gigabytes : context.options.memory_tiers) {
    const Tier tier = plan_tier(context, gigabytes, memory);
    PlanContext single = context;
    single.hardware.memory_bytes = bytes_of_tier(context, gigabytes);
    const std::int64_t free = single.budget(1).device;
    const auto rate = [&](const Plan& plan) {
      return tokens_per_second(plan.chosen, context.question(), context.options.global_batch);
    };
    const std::string plain =
        tier.plain ? fmt::format("{}, {:.0f} tokens/s", stage_name(tier.plain->chosen.strategy.stage),
                                 rate(*tier.plain))
                   : "no";
    const std::string offloaded =
        tier.offloaded
            ? fmt::format("{}, {} host, {:.0f} tokens/s", stage_name(tier.offloaded->chosen.strategy.stage),
                          format_bytes(tier.offloaded->predicted.host.peak.total), rate(*tier.offloaded))
            : "no";
    text += fmt::format("  {:>3} GB  {:<34} {:<44} {:<11} {:<11}\n", gigabytes, plain, offloaded,
                        adapters.lora <= free ? "yes" : "no", adapters.qlora <= free ? "yes" : "no");
    nlohmann::ordered_json row = {{"gigabytes", gigabytes}, {"full", nullptr}, {"with_host", nullptr}};
    if (tier.plain)
      row["full"] = to_json(tier.plain->chosen, context.question(), context.options.global_batch);
    if (tier.offloaded)
      row["with_host"] = to_json(tier.offloaded->chosen, context.question(), context.options.global_batch);
    row["lora_estimate_fits"] = adapters.lora <= free;
    row["qlora_estimate_fits"] = adapters.qlora <= free;
    rows.push_back(std::move(row));
  }
  if (context.options.json)
    return nlohmann::ordered_json{{"model", context.options.model},
                                  {"ranks", context.shape.ranks},
                                  {"tiers", rows},
                                  {"lora_estimate_bytes", adapters.lora},
                                  {"qlora_estimate_bytes", adapters.qlora}}
               .dump(2) +
           "\n";
  return text + fmt::format("LoRA and QLoRA of rank 16, by arithmetic for one device: {} and {}.\n",
                            format_bytes(adapters.lora), format_bytes(adapters.qlora));
}

std::string answer_inference(const PlanContext& context) {
  const PlanOptions& options = context.options;
  const std::int64_t free = context.budget(1).device;
  std::string text = fmt::format(
      "{}: inference of {} x {} tokens on one {}, estimated\n\n  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n",
      options.model, options.batch, context.inference_context, context.hardware.description, "format",
      "weights", "key-values", "scratch", "together", "fits");
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const InferenceEstimate& one :
       estimate_inference(context.model, options.batch, context.inference_context)) {
    const bool fits = one.total() <= free;
    text += fmt::format("  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n", one.format, format_bytes(one.weights),
                        format_bytes(one.key_values), format_bytes(one.scratch), format_bytes(one.total()),
                        fits ? "yes" : "no");
    rows.push_back({{"format", one.format},
                    {"weight_bytes", one.weights},
                    {"key_value_bytes", one.key_values},
                    {"scratch_bytes", one.scratch},
                    {"fits", fits}});
  }
  if (!options.json) return text;
  return nlohmann::ordered_json{
             {"model", options.model}, {"gpu", context.hardware.name}, {"estimate", true}, {"formats", rows}}
             .dump(2) +
         "\n";
}

std::string answer_list(const std::filesystem::path& configs, bool as_json) {
  nlohmann::ordered_json object = {{"models", ModelCatalog(configs / "models").names()}};
  std::string text = "models:\n";
  for (const auto& name : object["models"]) text += "  " + name.get<std::string>() + "\n";
  text += "devices:\n";
  for (const HardwareProfile& one : load_hardware_profiles(configs / "hardware")) {
    text += fmt::format("  {:<14}{}, {}\n", one.name, one.description, format_bytes(one.memory_bytes));
    object["devices"].push_back(
        {{"name", one.name}, {"description", one.description}, {"memory_bytes", one.memory_bytes}});
  }
  text += "links:\n";
  for (const LinkProfile& one : load_links(configs / "links.json")) {
    const char* between = one.between == LinkProfile::Between::nodes ? "nodes" : "devices";
    text += fmt::format("  {:<16}{:.1f} GB/s between {}\n", one.name, one.bandwidth / 1e9, between);
    object["links"].push_back({{"name", one.name}, {"bandwidth", one.bandwidth}, {"between", between}});
  }
  return as_json ? object.dump(2) + "\n" : text;
}

}  // namespace

std::string answer_plan(const PlanOptions& options, int columns, int& exit_code) {
  exit_code = 0;
  const std::filesystem::path configs = configs_folder();
  if (options.list) return answer_list(configs, options.json);
  PlanContext context = plan_context(options, configs);
  context.color = columns > 0;
  if (options.inference) return answer_inference(context);
  if (!options.memory_tiers.empty()) return answer_tiers(context);
  return answer_training(context, exit_code);
}

}  // namespace autoglm
