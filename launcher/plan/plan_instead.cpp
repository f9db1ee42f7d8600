#include "launcher/plan/plan_instead.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/units.h"
#include "launcher/planner/estimates.h"
#include "launcher/planner/model_catalog.h"
#include "launcher/planner/search.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

struct KnownModel {
  std::string name;
  ModelConfig config;
  std::int64_t num_parameters = 0;
};

// Of which the settings can be asked, the smallest first.
std::vector<KnownModel> smaller_models(const PlanContext& context) {
  const std::int64_t own = make_model(context.model).num_parameters();
  const ModelCatalog catalog(context.configs / "models");
  std::vector<KnownModel> models;
  for (const std::string& name : catalog.names()) {
    KnownModel one{name, catalog.find(name)};
    one.num_parameters = make_model(one.config).num_parameters();
    const bool long_enough = one.config.position_limit().value_or(context.options.sequence_length) >=
                             context.options.sequence_length;
    const bool deep_enough = context.options.pins.recompute_layers.value_or(0) <= one.config.num_layers;
    if (one.num_parameters < own && long_enough && deep_enough) models.push_back(std::move(one));
  }
  std::sort(models.begin(), models.end(),
            [](const KnownModel& a, const KnownModel& b) { return a.num_parameters < b.num_parameters; });
  return models;
}

std::optional<Plan> plan_of(PlanContext context, const KnownModel& one) {
  context.model = one.config;
  const PlanWish wish = context.wish();
  MemoryModel memory(wish.question);
  return Search(memory, wish.rates, context.options.pins, wish.global_batch, wish.budget(context.shape.ranks))
      .run_unless_hopeless();
}

// By halving: what fits does so below some size, but for the odd model.
std::optional<std::string> smaller_model(const PlanContext& context) {
  const std::vector<KnownModel> models = smaller_models(context);
  std::optional<std::string> text;
  std::size_t fits = 0, too_large = models.size();
  while (fits < too_large) {
    const std::size_t middle = (fits + too_large) / 2;
    const std::optional<Plan> plan = plan_of(context, models[middle]);
    if (!plan) {
      too_large = middle;
      continue;
    }
    text = fmt::format("a smaller model would fit as it is: {} ({})", models[middle].name,
                       describe_strategy(plan->chosen.strategy));
    fits = middle + 1;
  }
  return text;
}

std::optional<std::string> adapter(const PlanContext& context) {
  MemoryModel memory(context.question());
  const AdapterEstimate estimate = estimate_adapters(memory);
  const std::int64_t free = context.budget(1).device;
  std::string text;
  if (estimate.lora <= free) text = fmt::format("LoRA of rank 16 about {}", format_bytes(estimate.lora));
  if (estimate.qlora <= free)
    text += fmt::format("{}QLoRA {}about {}", text.empty() ? "" : " and ", text.empty() ? "of rank 16 " : "",
                        format_bytes(estimate.qlora));
  if (text.empty()) return std::nullopt;
  return fmt::format("an adapter would need, by estimate, {} of one device (adapters are not trained yet)",
                     text);
}

}  // namespace

std::vector<std::string> what_fits_instead(const PlanContext& context) {
  std::vector<std::string> texts;
  for (const std::optional<std::string>& one : {smaller_model(context), adapter(context)}) {
    if (one) texts.push_back(*one);
  }
  return texts;
}

}  // namespace autoglm
