#include "launcher/job/job_progress.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/fingerprint.h"
#include "checkpoint/step_store/checksum.h"
#include "launcher/job/model_transfer.h"
#include "launcher/planner/candidate_json.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

template <typename Number>
void add(std::uint32_t& sum, std::span<const Number> numbers) {
  sum = crc32c(std::as_bytes(numbers), sum);
}

bool has_frozen(const Model& model) {
  return std::ranges::any_of(model.parameters(), [](const Parameter* one) { return !one->trainable(); });
}

}  // namespace

std::string fingerprint_of(const Dataset& dataset) {
  std::uint32_t sum = 0;
  const SampleSet& samples = dataset.samples();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const std::uint64_t length = samples.length(i);
    add(sum, std::span<const std::uint64_t>(&length, 1));
    add(sum, samples.ids(i));
    const std::vector<std::int32_t> labels = samples.labels(i);
    add(sum, std::span<const std::int32_t>(labels));
  }
  add(sum, std::span<const std::uint32_t>(dataset.training()));
  return fmt::format("{:08x}", sum);
}

std::string fingerprint_of_frozen(const ModelDirectory& directory, const Model& model) {
  return has_frozen(model) ? fingerprint_of_weights(directory) : "";
}

nlohmann::ordered_json model_record(const ModelDirectory& directory, const Model& model,
                                    const std::string& frozen_fingerprint) {
  return {{"fingerprint", frozen_fingerprint},
          {"copies", copies_in(directory, model)},
          {"head_of_its_own", has_head_of_its_own(directory, model.config)}};
}

nlohmann::ordered_json job_progress(const TrainOptions& options, const JobPlan& plan,
                                    const Strategy& strategy, const BatchPlan& batches, std::int64_t step) {
  const StepRows last = batches.step(step - 1);
  nlohmann::ordered_json object = {{"options", to_json(options)},
                                   {"strategy", to_json(strategy)},
                                   {"device", plan.question.target == ops::Target::cuda ? "cuda" : "cpu"},
                                   {"ranks", plan.question.world_size},
                                   {"num_steps", batches.num_steps()},
                                   {"data",
                                    {{"seed", options.training.seed},
                                     {"epoch", last.epoch},
                                     {"rows_done", last.first_row + last.num_rows}}}};
  if (plan.products) object["products"] = word_of(kProducts, *plan.products);
  return object;
}

void check_resume_point(const ResumePoint& point, const Model& model) {
  std::vector<Manifest::Parameter> expected;
  for (const Parameter* one : model.parameters())
    if (one->trainable()) expected.push_back({one->name(), one->spec().shape});
  if (point.checkpoint.manifest().parameters == expected) return;
  fail(ExitCode::bad_data,
       "{}: holds other parameters than those that are trained: it is of another model, or --freeze differs",
       point.checkpoint.folder().string());
}

void check_resumed_data(const ResumePoint& point, const TrainOptions& options, const std::string& data,
                        const std::string& frozen) {
  const auto& allowed = options.saving.allow_changes;
  const auto differs = [&](const char* name, const char* key, const std::string& now) {
    const bool is_allowed = std::ranges::find(allowed, name) != allowed.end();
    return !is_allowed && point.training().at(key).at("fingerprint").get<std::string>() != now;
  };
  for (const auto& [name, key, now] :
       {std::tuple("data", "data", data), std::tuple("model", "model", frozen)}) {
    if (!differs(name, key, now)) continue;
    fail(ExitCode::cannot_create,
         "{}: what --{} names has changed since the checkpoint was written; --allow-change {} goes on all "
         "the same, "
         "--resume never begins anew",
         point.checkpoint.folder().string(), name, name);
  }
}

std::uint64_t checkpoint_bytes(const Model& model, const Strategy& strategy) {
  std::uint64_t elements = 0;
  for (const Parameter* one : model.parameters())
    if (one->trainable()) elements += static_cast<std::uint64_t>(one->spec().num_elements());
  return elements * (sizeof(float) + 2 * (strategy.bf16_moments ? 2 : sizeof(float)));
}

SavingPlan plan_saving(const TrainOptions& options, SavingQuestion question, Communicator& ranks) {
  struct Numbers {
    std::int64_t steps = 0, keep = 0;
    double seconds = 0;
  };
  const Numbers mine = run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return Numbers();
    question.free = free_space_of(checkpoint_directory(options));
    const SavingPlan plan = plan_saving(options.saving, question);
    return Numbers{plan.interval.steps.value_or(0), plan.keep, plan.interval.seconds.value_or(0)};
  });
  const Numbers agreed = gather(ranks, mine).front();
  SavingPlan plan{{false, {}, {}}, agreed.keep};
  if (agreed.steps > 0) plan.interval.steps = agreed.steps;
  if (agreed.seconds > 0) plan.interval.seconds = agreed.seconds;
  return plan;
}

void keep_best_of(const ResumePoint& point, StepSaver::Setup& setup) {
  const auto best = point.training().find("best");
  if (best == point.training().end() || !best->is_object()) return;
  setup.best_step = best->at("step").get<std::int64_t>();
  setup.best_loss = best->at("validation_loss").get<double>();
}

}  // namespace autoglm
