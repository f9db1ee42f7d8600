#include "launcher/plan/plan_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/units.h"
#include "launcher/plan/work_table.h"
#include "launcher/planner/candidate_json.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

constexpr int kBarColumns = 40;
constexpr int kBesideBars = 30;
// Of the text that follows a broken line.
constexpr std::size_t kFurtherIndent = 4;
// Alternatives that miss by more of the budget stand in one line together.
constexpr double kFar = 0.2;
// And those that take so many times as long.
constexpr double kMuchSlower = 3;
// Part of a step that waits for other ranks and is worth a sentence.
constexpr double kMuchWaiting = 0.15;

std::string parameters_text(double count) {
  return count >= 1e9 ? fmt::format("{:.2f} billion", count / 1e9)
                      : fmt::format("{:.1f} million", count / 1e6);
}

std::string steps_text(const PlanContext& context) {
  const std::int64_t idle = context.shape.ranks - context.options.global_batch;
  return fmt::format("steps of {} row{} of {} tokens{}", context.options.global_batch,
                     context.options.global_batch == 1 ? "" : "s", context.options.sequence_length,
                     idle > 0 ? fmt::format(", which leave {} of {} ranks without a row (--global-batch)",
                                            idle, context.shape.ranks)
                              : "");
}

std::string model_text(const PlanContext& context) {
  const Model model = make_model(context.model);
  return fmt::format("{}: {}, {} parameters, {}; {}\n", context.options.model, context.model.model_type,
                     parameters_text(static_cast<double>(model.num_parameters())),
                     precision_name(context.options.precision), steps_text(context));
}

// "; nvlink4 between devices, 8 x infiniband-ndr between nodes"
std::string links_text(const PlanContext& context) {
  if (context.shape.ranks == 1) return "";
  std::vector<std::string> links;
  if (context.shape.ranks > context.shape.nodes)
    links.push_back(fmt::format("{} between devices", context.hardware.link.name));
  if (context.shape.nodes > 1)
    links.push_back(
        fmt::format("{} x {} between nodes", context.hardware.node_links, context.node_link.name));
  return fmt::format("; {}", fmt::join(links, ", "));
}

std::string header(const PlanContext& context) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  return fmt::format(
      "{}{} x {}{}: {} each, {} for tensors; host memory {}{}\n", model_text(context), context.shape.ranks,
      context.hardware.description,
      context.shape.nodes > 1 ? fmt::format(" on {} nodes", context.shape.nodes) : "",
      format_bytes(context.hardware.memory_bytes), format_bytes(budget.device),
      budget.host ? fmt::format("{} per rank", format_bytes(*budget.host)) : "not known, taken as enough",
      links_text(context));
}

// A line per category, with a bar.
std::string bars(const MemoryUse& use, std::int64_t budget, const Screen& screen) {
  std::string text;
  const int longest =
      screen.columns > 0 ? std::clamp(screen.columns - kBesideBars, 1, kBarColumns) : kBarColumns;
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    const auto category = static_cast<MemoryCategory>(i);
    if (use[category] <= 0) continue;
    const double share =
        static_cast<double>(use[category]) / static_cast<double>(std::max<std::int64_t>(budget, 1));
    const int length = std::clamp(static_cast<int>(share * longest + 0.5), 0, longest);
    text += fmt::format("    {:<12}{:>11}  {}{}{}\n", category_name(category), format_bytes(use[category]),
                        screen.color ? "\033[36m" : "", std::string(static_cast<std::size_t>(length), '#'),
                        screen.color ? "\033[0m" : "");
  }
  return text;
}

bool misses_by_far(const Candidate& one, const MemoryBudget& budget) {
  const auto far = [](std::int64_t missing, std::int64_t of) {
    return static_cast<double>(missing) > kFar * static_cast<double>(of);
  };
  return far(one.device_missing, budget.device) || far(one.host_missing, budget.host.value_or(0));
}

// "zero3 with weights on the host; ddp"
std::string layouts_text(const std::vector<const Candidate*>& candidates) {
  std::vector<std::string> names;
  for (const Candidate* one : candidates) {
    std::string name(stage_name(one->strategy.stage));
    if (one->strategy.weights == WeightSourceKind::host) name += " with weights on the host";
    if (one->strategy.offload_optimizer > 0) name += " with the optimizer on the host";
    names.push_back(std::move(name));
  }
  return fmt::format("{}", fmt::join(names, "; "));
}

std::string folded_slow(const std::vector<const Candidate*>& slow, const Candidate& chosen) {
  if (slow.empty()) return "";
  return fmt::format("  {} more that would fit {} {:.0f} times as long or longer: {}\n", slow.size(),
                     slow.size() == 1 ? "takes" : "take", slow.front()->time.total() / chosen.time.total(),
                     layouts_text(slow));
}

// "4 more, far off, need 12 GiB to 60 GiB more ...: ..."
std::string folded_far(const std::vector<const Candidate*>& far) {
  if (far.empty()) return "";
  const auto missing = [](const Candidate* one) { return one->device_missing + one->host_missing; };
  std::int64_t least = missing(far.front()), most = least;
  for (const Candidate* one : far) {
    least = std::min(least, missing(one));
    most = std::max(most, missing(one));
  }
  return fmt::format(
      "  {} more, far off, {} {} more on the device or the host: {}\n", far.size(),
      far.size() == 1 ? "needs" : "need",
      least == most ? format_bytes(least) : fmt::format("{} to {}", format_bytes(least), format_bytes(most)),
      layouts_text(far));
}

// The best of every way to lay out memory.
std::string alternatives(TrainingAnswer& answer) {
  const Plan& plan = *answer.plan();
  const MemoryBudget budget = answer.context().budget(answer.context().shape.ranks);
  std::string text =
      fmt::format("\n  strategy\n  {:>12} {:>11} {:>11} {:>6}\n", "device", "host", "tokens/s", "MFU");
  std::vector<const Candidate*> far, slow;
  for (const Candidate& one : plan.alternatives) {
    const bool chosen = answer.is_chosen(one);
    if (!chosen && misses_by_far(one, budget)) {
      far.push_back(&one);
      continue;
    }
    if (one.fits() && one.time.total() > kMuchSlower * plan.chosen.time.total()) {
      slow.push_back(&one);
      continue;
    }
    text += fmt::format("{} {}\n  {:>12} {:>11} {:>11} {:>5.1f}%  {}\n", chosen ? "*" : " ",
                        schedule_text(one.strategy), format_bytes(one.price.device.total),
                        format_bytes(one.price.host.total), format_count(answer.tokens_per_second(one)),
                        100 * answer.model_flops_utilization(one),
                        chosen ? "chosen" : reason_lost(one, plan.chosen));
  }
  return text + folded_slow(slow, plan.chosen) + folded_far(far) + "\n";
}

// Where the time of a step goes.
std::string times(const Plan& plan) {
  const StepTime& time = plan.chosen.time;
  const std::pair<std::string_view, double> parts[] = {{"forward and backward", time.compute},
                                                       {"recompute", time.recompute},
                                                       {"waiting for links", time.exposed},
                                                       {"optimizer", time.optimizer}};
  std::vector<std::string> texts;
  for (const auto& [name, seconds] : parts) {
    if (seconds > 0)
      texts.push_back(fmt::format("{} {:.3g} s ({:.0f} %)", name, seconds, 100 * seconds / time.total()));
  }
  return fmt::format("step: {:.3g} s, estimated: {}\n", time.total(), fmt::join(texts, ", "));
}

// What holds the ranks up where it is what they send to each other.
std::string bound_by_links(TrainingAnswer& answer) {
  const double share = answer.share_of_links();
  if (share < kMuchWaiting) return "";
  const PlanContext& context = answer.context();
  const bool within = answer.rates().link_bandwidth >= context.hardware.link.bandwidth;
  return fmt::format(
      "{} between {} costs {:.0f} % of the step: at {:.1f} GB/s it is slower than the devices compute; fewer "
      "bytes "
      "help (below), or a faster link ({})\n",
      within ? context.hardware.link.name : context.node_link.name, within ? "devices" : "nodes", 100 * share,
      answer.rates().link_bandwidth / 1e9, within ? "--device-link" : "--node-link, --node-links");
}

// What the chosen plan needs, and what it leaves.
std::string margins(const PlanContext& context, const Plan& plan, const Screen& screen) {
  const MemoryBudget budget = context.budget(context.shape.ranks);
  const MemoryStatistics& predicted = plan.predicted;
  std::string text = fmt::format(
      "device: {} of {} at the peak, in the {} phase, and {} of gaps between tensors; {} to spare\n",
      format_bytes(predicted.device.peak.total), format_bytes(budget.device),
      phase_name(plan.chosen.price.device_phase),
      format_bytes(predicted.device.extent - predicted.device.peak.total),
      format_bytes(budget.device - predicted.device.extent));
  text += bars(predicted.device.peak, budget.device, screen);
  if (predicted.host.peak.total > 0) {
    const std::int64_t node = predicted.host.extent * context.shape.ranks_per_node();
    text += fmt::format(
        "host: {} per rank, {} per node{}\n", format_bytes(predicted.host.peak.total), format_bytes(node),
        budget.host
            ? fmt::format("; {} to spare per rank", format_bytes(*budget.host - predicted.host.extent))
            : "");
    text += bars(predicted.host.peak, budget.host.value_or(predicted.host.peak.total), screen);
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
  const auto add = [&](const OptIn& one, std::string_view what) {
    const Candidate& other = one.plan.chosen;
    text += fmt::format("  {}: {:+.0f} % tokens/s, {} on the device, {} on the host ({}); {}\n", one.option,
                        100 * one.gain, format_bytes(other.price.device.total),
                        format_bytes(other.price.host.total), schedule_text(other.strategy), what);
  };
  for (const OptIn& one : answer.opt_ins()) add(one, "changes last bits");
  for (const OptIn& one : answer.larger_batches()) add(one, "fewer and larger updates");
  return text.empty() ? "" : "nearest changes:\n" + text;
}

const char* yes_or_no(bool value) {
  return value ? "yes" : "no";
}

std::string tier_line(const PlanContext& context, const Tier& tier) {
  const auto plan = [&](const std::optional<Plan>& one, bool with_host) -> std::string {
    if (!one) return "no";
    const std::string host =
        with_host ? fmt::format("{} host, ", format_bytes(one->predicted.host.peak.total)) : "";
    return fmt::format(
        "{}, {}{} tokens/s", stage_name(one->chosen.strategy.stage), host,
        format_count(tokens_per_second(one->chosen, context.question(), context.options.global_batch)));
  };
  return fmt::format("  {:>3} GB  {:<24} {:<36} {:<5} {:<5} {}\n", tier.gigabytes, plan(tier.plain, false),
                     plan(tier.offloaded, true), yes_or_no(tier.lora_fits), yes_or_no(tier.qlora_fits),
                     tier.card);
}

}  // namespace

std::string wrapped_to(std::string_view text, int columns) {
  if (columns <= 0) return std::string(text);
  const auto most = static_cast<std::size_t>(columns);
  std::string result;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    std::string line(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
    const std::size_t start = std::min(line.find_first_not_of(" *"), line.size());
    const std::string indent(std::min(start + kFurtherIndent, most / 2), ' ');
    while (line.size() > most && line.find('\033') == std::string::npos) {
      const std::size_t space = line.rfind(' ', most);
      if (space == std::string::npos || line.find_first_not_of(' ') >= space) break;
      result += line.substr(0, line.find_last_not_of(' ', space) + 1) + "\n";
      line = indent + line.substr(std::min(line.find_first_not_of(' ', space), line.size()));
    }
    result += line + "\n";
  }
  return result;
}

std::string to_text(TrainingAnswer& answer, const Screen& screen) {
  const PlanContext& context = answer.context();
  if (!answer.plan())
    return wrapped_to(header(context) + "\n" + answer.why_nothing_fits() + "\n", screen.columns);
  const Plan& plan = *answer.plan();
  return wrapped_to(header(context) + alternatives(answer) + times(plan) + bound_by_links(answer) +
                        margins(context, plan, screen) + doubled(answer) + nearest_changes(answer) +
                        (context.options.work ? work_text(answer.work(), answer.rates()) : ""),
                    screen.columns);
}

std::string to_text(const TiersAnswer& answer, const Screen& screen) {
  std::string text = fmt::format(
      "{}{}\n  {:>6}  {:<24} {:<36} {:<5} {:<5} {}\n", model_text(answer.context),
      answer.context.shape.ranks == 1 ? "" : fmt::format("{} ranks\n", answer.context.shape.ranks), "device",
      "full fine-tuning", "with host memory (per rank)", "LoRA*", "QLoRA*", "as fast as");
  for (const Tier& tier : answer.tiers) text += tier_line(answer.context, tier);
  text += fmt::format("* estimates for one device, by arithmetic: LoRA and QLoRA of rank 16 need {} and {}\n",
                      format_bytes(answer.adapters.lora), format_bytes(answer.adapters.qlora));
  return wrapped_to(text, screen.columns);
}

std::string to_text(const InferenceAnswer& answer, const Screen& screen) {
  std::string text = fmt::format(
      "{}: inference of {} x {} tokens on one {}, estimated\n\n  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n",
      answer.context.options.model, answer.context.options.batch, answer.context.inference_context,
      answer.context.hardware.description, "format", "weights", "key-values", "scratch", "together", "fits");
  for (const InferenceEstimate& one : answer.formats)
    text += fmt::format("  {:<6} {:>11} {:>12} {:>11} {:>11}  {}\n", one.format, format_bytes(one.weights),
                        format_bytes(one.key_values), format_bytes(one.scratch), format_bytes(one.total()),
                        yes_or_no(answer.fits(one)));
  return wrapped_to(text, screen.columns);
}

std::string to_text(const NamesAnswer& answer, const Screen& screen) {
  std::string text = "models:\n";
  for (const std::string& name : answer.models) text += "  " + name + "\n";
  text += "devices:\n";
  for (const HardwareProfile& one : answer.devices)
    text += fmt::format("  {:<15}{}, {}{}\n", one.name, one.description, format_bytes(one.memory_bytes),
                        one.matrix_flops_bf16 ? "" : ", no bf16");
  text += "links:\n";
  for (const LinkProfile& one : answer.links)
    text += fmt::format("  {:<16}{:.1f} GB/s between {}\n", one.name, one.bandwidth / 1e9, ends_of(one));
  return wrapped_to(text, screen.columns);
}

}  // namespace autoglm
