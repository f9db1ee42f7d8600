#include "launcher/plan/plan_json.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "launcher/plan/work_table.h"
#include "launcher/planner/candidate_json.h"

namespace autoglm {
namespace {

using nlohmann::ordered_json;

// Of a plan with another global batch than the one that was asked for, perhaps.
ordered_json opt_in_json(TrainingAnswer& answer, const OptIn& one) {
  ordered_json plan = to_json(one.plan.chosen, answer.context().question(), one.global_batch);
  const auto asked = static_cast<double>(answer.context().options.global_batch);
  plan["estimated_mfu"] =
      answer.model_flops_utilization(one.plan.chosen) * static_cast<double>(one.global_batch) / asked;
  return {{"option", one.option}, {"gain", one.gain}, {"plan", std::move(plan)}};
}

ordered_json candidate_json(const PlanContext& context, const Candidate& one) {
  return to_json(one, context.question(), context.options.global_batch);
}

void add_budget(ordered_json& object, const PlanContext& context) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  object["device_budget_bytes"] = budget.device;
  object["host_budget_bytes"] = nullptr;
  if (budget.host) object["host_budget_bytes"] = *budget.host;
}

ordered_json json_of_no_plan(const TrainingAnswer& answer) {
  const PlanContext& context = answer.context();
  ordered_json object = {
      {"model", context.options.model}, {"fits", false}, {"why", answer.why_nothing_fits()}};
  add_budget(object, context);
  object["nearest"] = nullptr;
  if (answer.nearest()) object["nearest"] = candidate_json(context, *answer.nearest());
  return object;
}

}  // namespace

ordered_json to_json(TrainingAnswer& answer) {
  if (!answer.plan()) return json_of_no_plan(answer);
  const Plan& plan = *answer.plan();
  const PlanContext& context = answer.context();
  const auto candidate = [&](const Candidate& one) {
    ordered_json object = candidate_json(context, one);
    object["estimated_mfu"] = answer.model_flops_utilization(one);
    return object;
  };
  ordered_json object = {{"model", context.options.model},
                         {"gpu", context.hardware.name},
                         {"ranks", context.shape.ranks},
                         {"nodes", context.shape.nodes},
                         {"fits", true}};
  add_budget(object, context);
  object["chosen"] = candidate(plan.chosen);
  object["predicted_device_peak_bytes"] = plan.predicted.device.peak.total;
  object["predicted_device_bytes_at_peak"] = bytes_by_category(plan.predicted.device.peak);
  object["predicted_host_peak_bytes"] = plan.predicted.host.peak.total;
  object["predicted_host_bytes_at_peak"] = bytes_by_category(plan.predicted.host.peak);
  object["candidates_priced"] = plan.num_priced;
  object["overruns"] = plan.overruns;
  for (const Candidate& one : plan.alternatives) {
    ordered_json alternative = candidate(one);
    alternative["chosen"] = answer.is_chosen(one);
    if (!answer.is_chosen(one)) alternative["lost"] = reason_lost(one, plan.chosen);
    object["alternatives"].push_back(std::move(alternative));
  }
  if (context.options.work) object["work"] = work_json(answer.work(), answer.rates());
  object["opt_ins"] = ordered_json::array();
  for (const OptIn& one : answer.opt_ins()) object["opt_ins"].push_back(opt_in_json(answer, one));
  object["larger_batches"] = ordered_json::array();
  for (const OptIn& one : answer.larger_batches())
    object["larger_batches"].push_back(opt_in_json(answer, one));
  return object;
}

ordered_json to_json(const TiersAnswer& answer) {
  const PlanContext& context = answer.context;
  const auto plan = [&](const std::optional<Plan>& one) {
    return one ? candidate_json(context, one->chosen) : ordered_json(nullptr);
  };
  ordered_json tiers = ordered_json::array();
  for (const Tier& tier : answer.tiers)
    tiers.push_back({{"gigabytes", tier.gigabytes},
                     {"card", tier.card},
                     {"full", plan(tier.plain)},
                     {"with_host", plan(tier.offloaded)},
                     {"lora_estimate_fits", tier.lora_fits},
                     {"qlora_estimate_fits", tier.qlora_fits}});
  return {{"model", context.options.model},
          {"ranks", context.shape.ranks},
          {"tiers", std::move(tiers)},
          {"lora_estimate_bytes", answer.adapters.lora},
          {"qlora_estimate_bytes", answer.adapters.qlora}};
}

ordered_json to_json(const InferenceAnswer& answer) {
  ordered_json formats = ordered_json::array();
  for (const InferenceEstimate& one : answer.formats)
    formats.push_back({{"format", one.format},
                       {"weight_bytes", one.weights},
                       {"key_value_bytes", one.key_values},
                       {"scratch_bytes", one.scratch},
                       {"fits", answer.fits(one)}});
  return {{"model", answer.context.options.model},
          {"gpu", answer.context.hardware.name},
          {"estimate", true},
          {"formats", std::move(formats)}};
}

ordered_json to_json(const NamesAnswer& answer) {
  ordered_json object = {{"models", answer.models}};
  for (const HardwareProfile& one : answer.devices)
    object["devices"].push_back(
        {{"name", one.name}, {"description", one.description}, {"memory_bytes", one.memory_bytes}});
  for (const LinkProfile& one : answer.links)
    object["links"].push_back({{"name", one.name}, {"bandwidth", one.bandwidth}, {"between", ends_of(one)}});
  return object;
}

}  // namespace autoglm
