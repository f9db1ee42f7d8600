#include "launcher/plan/plan_answers.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "launcher/planner/candidate_json.h"
#include "launcher/planner/model_catalog.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGigabyte = 1'000'000'000;

Search make_search(const PlanContext& context, const PlanWish& wish, MemoryModel& memory,
                   const StrategyPins& pins) {
  return Search(memory, wish.rates, pins, wish.global_batch, wish.budget(context.shape.ranks));
}

// Of cards sold with so many GB, where a profile tells; else the number itself.
std::int64_t bytes_of_tier(const PlanContext& context, std::int64_t gigabytes) {
  std::int64_t smallest = 0;
  for (const HardwareProfile& one : context.profiles) {
    if (one.sold_as_gb == gigabytes && (smallest == 0 || one.memory_bytes < smallest))
      smallest = one.memory_bytes;
  }
  return smallest > 0 ? smallest : gigabytes * kGigabyte;
}

// Of the cards sold with so many GB the slowest; where none is, of all that have more; else of all.
const HardwareProfile& card_of_tier(const PlanContext& context, std::int64_t gigabytes) {
  if (context.options.names_gpu) return context.hardware;
  const bool in_bf16 = context.options.precision == Precision::bf16;
  const auto speed = [&](const HardwareProfile& one) {
    return one.matrix_efficiency * (in_bf16 ? *one.matrix_flops_bf16 : one.matrix_flops_fp32);
  };
  const auto slowest = [&](const auto& is_meant) {
    const HardwareProfile* found = nullptr;
    for (const HardwareProfile& one : context.profiles) {
      if ((in_bf16 && !one.matrix_flops_bf16) || !is_meant(one.sold_as_gb)) continue;
      if (found == nullptr || speed(one) < speed(*found)) found = &one;
    }
    return found;
  };
  const HardwareProfile* card = slowest([&](std::int64_t sold) { return sold == gigabytes; });
  if (card == nullptr) card = slowest([&](std::int64_t sold) { return sold > gigabytes; });
  if (card == nullptr) card = slowest([](std::int64_t) { return true; });
  return card != nullptr ? *card : context.hardware;
}

Tier plan_tier(const PlanContext& asked, std::int64_t gigabytes, const AdapterEstimate& adapters,
               MemoryModel& memory) {
  PlanContext context = asked.on(card_of_tier(asked, gigabytes));
  context.hardware.memory_bytes = bytes_of_tier(context, gigabytes);
  const PlanWish wish = context.wish();
  StrategyPins without_host = context.options.pins;
  without_host.offload_optimizer = 0;
  without_host.offload_activations = 0;
  Search plain = make_search(context, wish, memory, without_host);
  plain.restrict_to([](const Strategy& one) { return one.weights != WeightSourceKind::host; });
  Tier tier;
  tier.gigabytes = gigabytes;
  tier.card = context.hardware.name;
  tier.plain = plain.run();
  tier.offloaded = make_search(context, wish, memory, context.options.pins).run();
  const std::int64_t free = context.budget(1).device;
  tier.lora_fits = adapters.lora <= free;
  tier.qlora_fits = adapters.qlora <= free;
  return tier;
}

// The kind of time in which `other` loses most.
std::string_view slowest_part(const StepTime& other, const StepTime& chosen) {
  const std::pair<double, std::string_view> parts[] = {
      {other.compute - chosen.compute, "smaller micro-batches"},
      {other.recompute - chosen.recompute, "recompute"},
      {other.exposed - chosen.exposed, "communication and transfers"},
      {other.optimizer - chosen.optimizer, "the optimizer's step"}};
  return std::max_element(std::begin(parts), std::end(parts))->second;
}

}  // namespace

TrainingAnswer::TrainingAnswer(const PlanContext& context)
    : context_(context),
      wish_(context.wish()),
      memory_(context.question()),
      search_(make_search(context, wish_, memory_, context.options.pins)),
      plan_(search_.run()) {}

std::string TrainingAnswer::why_nothing_fits() const {
  return autoglm::why_nothing_fits(search_, context_.options.pins, wish_);
}

bool TrainingAnswer::is_chosen(const Candidate& one) const {
  return schedule_text(one.strategy) == schedule_text(plan_->chosen.strategy);
}

std::vector<OptIn> TrainingAnswer::opt_ins() {
  return autoglm::opt_ins(memory_, context_.options.pins, wish_, *plan_);
}

std::vector<OptIn> TrainingAnswer::larger_batches() {
  return autoglm::larger_batches(memory_, context_.options.pins, wish_, *plan_);
}

Candidate TrainingAnswer::with_twice_the_micro_batch() {
  Strategy larger = plan_->chosen.strategy;
  larger.micro_batch *= 2;
  return search_.judge_closely(larger);
}

Candidate TrainingAnswer::with_twice_the_row_length() const {
  MemoryQuestion longer = context_.question();
  longer.row_length *= 2;
  MemoryModel memory(longer);
  return make_search(context_, wish_, memory, context_.options.pins).judge_closely(plan_->chosen.strategy);
}

double TrainingAnswer::tokens_per_second(const Candidate& one) const {
  return autoglm::tokens_per_second(one, memory_.question(), wish_.global_batch);
}

StepWork TrainingAnswer::work() const {
  return count_step(memory_, plan_->chosen.strategy, plan_->chosen.num_micro_batches);
}

double TrainingAnswer::model_flops_utilization(const Candidate& one) {
  return search_.times().model_flops_utilization(tokens_per_second(one) / context_.shape.ranks);
}

double TrainingAnswer::share_of_links() {
  const Candidate& chosen = plan_->chosen;
  return search_.times().link_seconds(chosen.strategy, chosen.num_micro_batches) / chosen.time.total();
}

TiersAnswer answer_tiers(const PlanContext& context) {
  MemoryModel memory(context.question());
  TiersAnswer answer{context, estimate_adapters(memory), {}};
  for (const std::int64_t gigabytes : context.options.memory_tiers)
    answer.tiers.push_back(plan_tier(context, gigabytes, answer.adapters, memory));
  return answer;
}

InferenceAnswer answer_inference(const PlanContext& context) {
  return {context, estimate_inference(context.model, context.options.batch, context.inference_context)};
}

bool InferenceAnswer::fits(const InferenceEstimate& one) const {
  return one.total() <= context.budget(1).device;
}

NamesAnswer answer_names(const std::filesystem::path& configs) {
  return {ModelCatalog(configs / "models").names(), load_hardware_profiles(configs / "hardware"),
          load_links(configs / "links.json")};
}

std::string schedule_text(const Strategy& strategy) {
  return fmt::format("micro-batch {}, {}", strategy.micro_batch, describe_strategy(strategy));
}

std::string reason_lost(const Candidate& other, const Candidate& chosen) {
  if (other.device_missing > 0)
    return fmt::format(
        "needs {} more on the device ({}){}", format_bytes(other.device_missing),
        phase_name(other.price.device_phase),
        other.host_missing > 0 ? fmt::format(" and {} on the host", format_bytes(other.host_missing)) : "");
  if (other.host_missing > 0)
    return fmt::format("needs {} more on the host", format_bytes(other.host_missing));
  const double slower = other.time.total() / chosen.time.total() - 1;
  if (slower <= -0.005)
    return fmt::format("{:.0f} % faster, and leans more on the host", std::max(1.0, -100 * slower));
  if (slower < 0.005) return "as fast, and needs more memory";
  return fmt::format("{:.0f} % slower: {}", std::max(1.0, 100 * slower),
                     slowest_part(other.time, chosen.time));
}

const char* ends_of(const LinkProfile& link) {
  return link.between == LinkProfile::Between::nodes ? "nodes" : "devices";
}

}  // namespace autoglm
