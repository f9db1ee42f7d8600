#include "launcher/job/memory_recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/units.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

// What is planned for next, of a plan that failed though it should have fitted.
constexpr double kShrink = 0.98;

}  // namespace

MemoryRecovery::MemoryRecovery(const TrainOptions& options, JobPlan& job, Communicator& communicator,
                               std::function<std::int64_t()> device_limit,
                               std::function<void(const MemoryEvent&)> on_event)
    : options_(options),
      job_(job),
      communicator_(communicator),
      device_limit_(std::move(device_limit)),
      on_event_(std::move(on_event)) {}

// The first rank's sentence, and how many others there are.
std::string MemoryRecovery::describe_failures(const std::string& mine) {
  const std::vector<std::string> texts = gather_text(communicator_, mine);
  const auto first = std::ranges::find_if(texts, [](const std::string& text) { return !text.empty(); });
  if (first == texts.end()) return "";
  const std::string text = fmt::format("rank {}: {}", first - texts.begin(), *first);
  const auto others =
      std::count_if(first + 1, texts.end(), [](const std::string& one) { return !one.empty(); });
  return others > 0 ? fmt::format("{} (and {} more ranks)", text, others) : text;
}

Plan MemoryRecovery::next_plan(std::int64_t step, const std::string& what) {
  if (options_.strategy.on_oom == OnOutOfMemory::stop)
    throw AgreedError(ExitCode::does_not_fit,
                      fmt::format("{}; --on-oom shrink would go on with a smaller plan", what));
  std::int64_t limit = least(communicator_, device_limit_());
  const std::int64_t predicted = job_.plan.predicted.device.extent;
  if (limit >= predicted) {
    if (last_step_ != step) {
      last_step_ = step;
      return job_.plan;
    }
    limit = static_cast<std::int64_t>(kShrink * static_cast<double>(predicted));
  }
  return run_agreed(communicator_, [&] {
    try {
      return plan_again(options_, job_, job_.strategy(), limit);
    } catch (const Error& error) {
      fail(error.code(), "{}; {}", what, error.what());
    }
  });
}

bool MemoryRecovery::out_of_memory(std::int64_t step, std::int64_t /*num_ranks*/) {
  Engine& engine = *engine_;
  const std::optional<OutOfMemory>& failure = engine.out_of_memory();
  const std::string what =
      describe_failures(failure ? fmt::format("{} phase of step {}: {}",
                                              phase_name(engine.out_of_memory_phase()), step, failure->what())
                                : "");
  Plan next = next_plan(step, what);
  const Strategy before = engine.options().strategy;
  run_agreed(communicator_, [&] {
    try {
      engine.change_strategy(next.chosen.strategy);
    } catch (const OutOfMemory& error) {
      fail(ExitCode::does_not_fit, "{}; moving to a smaller plan failed as well: {}", what, error.what());
    }
  });
  job_.plan = std::move(next);
  const Strategy& now = job_.strategy();
  on_event_({step, what, describe_strategy(now), now.micro_batch, now.micro_batch != before.micro_batch});
  return true;
}

bool MemoryRecovery::recover_construction(const OutOfMemory* error) {
  const std::string what =
      describe_failures(error != nullptr ? fmt::format("construction phase: {}", error->what()) : "");
  if (what.empty()) return false;
  const std::int64_t rows = job_.strategy().micro_batch;
  job_.plan = next_plan(0, what);
  on_event_({0, what, describe_strategy(job_.strategy()), job_.strategy().micro_batch,
             job_.strategy().micro_batch != rows});
  return true;
}

}  // namespace autoglm
