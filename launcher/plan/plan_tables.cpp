#include "launcher/plan/plan_tables.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "launcher/planner/candidate_json.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

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

// The best of every way to lay out memory.
std::string alternatives(TrainingAnswer& answer) {
  const Plan& plan = *answer.plan();
  std::string text =
      fmt::format("\n  {:<50} {:>10} {:>10} {:>9} {:>6}\n", "strategy", "device", "host", "tokens/s", "MFU");
  for (const Candidate& one : plan.alternatives) {
    const bool chosen = answer.is_chosen(one);
    text += fmt::format("{} {}\n  {:<50} {:>10} {:>10} {:>9.0f} {:>5.1f}%  {}\n", chosen ? "*" : " ",
                        schedule_text(one.strategy), "", format_bytes(one.price.device.total),
                        format_bytes(one.price.host.total), answer.tokens_per_second(one),
                        100 * answer.model_flops_utilization(one),
                        chosen ? "chosen" : reason_lost(one, plan.chosen));
  }
  return text + "\n";
}

// What the chosen plan needs, and what it leaves.
std::string margins(const PlanContext& context, const Plan& plan, bool color) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  const MemoryStatistics& predicted = plan.predicted;
  std::string text = fmt::format(
      "device: {} of {} at the peak, in the {} phase, and {} of gaps between tensors; {} to spare\n",
      format_bytes(predicted.device.peak.total), format_bytes(budget.device),
      phase_name(plan.chosen.price.device_phase),
      format_bytes(predicted.device.extent - predicted.device.peak.total),
      format_bytes(budget.device - predicted.device.extent));
  text += bars(predicted.device.peak, budget.device, color);
  if (predicted.host.peak.total > 0) {
    const std::int64_t node = predicted.host.extent * context.shape.ranks_per_node();
    text += fmt::format(
        "host: {} per rank, {} per node{}\n", format_bytes(predicted.host.peak.total), format_bytes(node),
        budget.host
            ? fmt::format("; {} to spare per rank", format_bytes(*budget.host - predicted.host.extent))
            : "");
    text += bars(predicted.host.peak, budget.host.value_or(predicted.host.peak.total), color);
  }
  return text;
}

// What the chosen plan would need with one quantity doubled.
std::string doubled(TrainingAnswer& answer) {
  const Plan& plan = *answer.plan();
  const PlanContext& context = answer.context();
  const auto line = [&](std::string_view what, const Candidate& one) {
    std::string text = fmt::format("  {:<28}{:>11} ({} more)", what, format_bytes(one.price.device.total),
                                   format_bytes(one.price.device.total - plan.chosen.price.device.total));
    if (one.device_missing > 0) text += fmt::format(", {} too many", format_bytes(one.device_missing));
    if (one.host_missing > 0)
      text += fmt::format(", {} too many on the host", format_bytes(one.host_missing));
    return text + (one.fits() ? ", fits" : "");
  };
  const Candidate larger = answer.with_twice_the_micro_batch();
  std::string text = line("twice the micro-batch", larger);
  const std::int64_t rows = larger.strategy.micro_batch * context.shape.ranks;
  if (rows > context.options.global_batch) text += fmt::format(" (with --global-batch {})", rows);

  const std::optional<std::int64_t> positions = context.model.position_limit();
  if (positions && 2 * context.options.sequence_length > *positions)
    return text + fmt::format("\n  {:<28}more than the model's {} positions\n", "twice the sequence length",
                              *positions);
  return text + "\n" + line("twice the sequence length", answer.with_twice_the_row_length()) + "\n";
}

std::string nearest_changes(TrainingAnswer& answer) {
  std::string text;
  const double now = answer.plan()->chosen.time.total();
  for (const OptIn& one : answer.opt_ins()) {
    const Candidate& other = one.plan.chosen;
    text += fmt::format("  {}: {:+.0f} % tokens/s, {} on the device, {} on the host ({})\n", one.option,
                        100 * (now / other.time.total() - 1), format_bytes(other.price.device.total),
                        format_bytes(other.price.host.total), schedule_text(other.strategy));
  }
  return text.empty() ? "" : "nearest changes, which change last bits:\n" + text;
}

const char* yes_or_no(bool value) {
  return value ? "yes" : "no";
}

std::string tier_line(const PlanContext& context, const Tier& tier) {
  const auto plan = [&](const std::optional<Plan>& one, bool with_host) -> std::string {
    if (!one) return "no";
    const std::string host =
        with_host ? fmt::format("{} host, ", format_bytes(one->predicted.host.peak.total)) : "";
    return fmt::format("{}, {}{:.0f} tokens/s", stage_name(one->chosen.strategy.stage), host,
                       tokens_per_second(one->chosen, context.question(), context.options.global_batch));
  };
  return fmt::format("  {:>3} GB  {:<34} {:<44} {:<11} {:<11}\n", tier.gigabytes, plan(tier.plain, false),
                     plan(tier.offloaded, true), yes_or_no(tier.lora_fits), yes_or_no(tier.qlora_fits));
}

}  // namespace

std::string to_text(TrainingAnswer& answer, bool color) {
  if (!answer.plan()) return header(answer.context()) + "\n" + answer.why_nothing_fits() + "\n";
  return header(answer.context()) + alternatives(answer) + margins(answer.context(), *answer.plan(), color) +
         doubled(answer) + nearest_changes(answer);
}

std::string to_text(const TiersAnswer& answer) {
  std::string text =
      fmt::format("{}\n  {:>6}  {:<34} {:<44} {:<10} {:<10}\n", header(answer.context), "device",
                  "full fine-tuning", "with host memory (per rank)", "LoRA (est.)", "QLoRA (est.)");
  for (const Tier& tier : answer.tiers) text += tier_line(answer.context, tier);
  return text + fmt::format("LoRA and QLoRA of rank 16, by arithmetic for one device: {} and {}.\n",
                            format_bytes(answer.adapters.lora), format_bytes(answer.adapters.qlora));
}

std::string to_text(const InferenceAnswer& answer) {
  std::string text = fmt::format(
      "{}: inference of {} x {} tokens on one {}, estimated\n\n  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n",
      answer.context.options.model, answer.context.options.batch, answer.context.inference_context,
      answer.context.hardware.description, "format", "weights", "key-values", "scratch", "together", "fits");
  for (const InferenceEstimate& one : answer.formats)
    text += fmt::format("  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n", one.format, format_bytes(one.weights),
                        format_bytes(one.key_values), format_bytes(one.scratch), format_bytes(one.total()),
                        yes_or_no(answer.fits(one)));
  return text;
}

std::string to_text(const NamesAnswer& answer) {
  std::string text = "models:\n";
  for (const std::string& name : answer.models) text += "  " + name + "\n";
  text += "devices:\n";
  for (const HardwareProfile& one : answer.devices)
    text += fmt::format("  {:<14}{}, {}\n", one.name, one.description, format_bytes(one.memory_bytes));
  text += "links:\n";
  for (const LinkProfile& one : answer.links)
    text += fmt::format("  {:<16}{:.1f} GB/s between {}\n", one.name, one.bandwidth / 1e9, ends_of(one));
  return text;
}

}  // namespace autoglm
