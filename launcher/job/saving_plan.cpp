#include "launcher/job/saving_plan.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/units.h"

namespace autoglm {
namespace {

constexpr double kAutomaticSeconds = 15 * 60;

}  // namespace

SavingPlan plan_saving(const SavingOptions& options, const SavingQuestion& question) {
  SavingPlan plan{options.save_every, options.keep};
  if (options.save_every.automatic) plan.interval = {false, {}, kAutomaticSeconds};
  if (!question.free || (!plan.interval.steps && !plan.interval.seconds)) return plan;
  const std::int64_t best = options.keep_best ? 1 : 0;
  const std::uint64_t all = *question.free + question.replaced;
  const std::uint64_t room = all - std::min(all, question.model_bytes);
  const auto most = static_cast<std::int64_t>(room / question.checkpoint_bytes);
  // One more while a new one is written.
  const std::int64_t wanted = plan.keep + best + 1;
  if (most >= wanted) return plan;
  const auto size = format_bytes(static_cast<std::int64_t>(question.checkpoint_bytes));
  const std::string free =
      format_bytes(static_cast<std::int64_t>(all)) +
      (question.replaced > 0 ? " that are free or the run's own checkpoints" : " that are free");
  if (!options.save_every.automatic) {
    fail(ExitCode::cannot_create,
         "--save-every: {} checkpoints of {} at a time and the model do not fit into the {}; lower --keep, "
         "free "
         "some space, or give a --checkpoint-dir with more of it",
         wanted, size, free);
  }
  plan.keep = most - best - 1;
  const bool matters = question.estimated_seconds > kAutomaticSeconds;
  if (plan.keep < 1) {
    plan = {{false, {}, {}}, 1};
    if (matters)
      spdlog::warn("no checkpoints: two of {} at a time and the model do not fit into the {}", size, free);
  } else if (matters) {
    spdlog::warn("{} and not {} checkpoints stay: there is room for {} of {} at a time", plan.keep,
                 options.keep, most, size);
  }
  return plan;
}

}  // namespace autoglm
