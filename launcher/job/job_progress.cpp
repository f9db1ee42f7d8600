#include "launcher/job/job_progress.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/file.h"
#include "launcher/job/model_transfer.h"
#include "launcher/planner/candidate_json.h"
#include "sharding/agree.h"

namespace autoglm {

nlohmann::ordered_json model_record(const ModelDirectory& directory, const Model& model,
                                    const InputMarks& marks) {
  return {{"fingerprint", marks.frozen()},
          {"config", marks.config},
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

void check_resumed_inputs(const ResumePoint& point, const TrainOptions& options, const InputMarks& marks) {
  const auto& allowed = options.saving.allow_changes;
  struct Compared {
    const char *option, *object, *key;
    std::string now;
  };
  for (const auto& [option, object, key, now] : {Compared{"data", "data", "fingerprint", marks.data},
                                                 Compared{"model", "model", "fingerprint", marks.frozen()},
                                                 Compared{"model", "model", "config", marks.config}}) {
    if (std::ranges::find(allowed, option) != allowed.end()) continue;
    if (point.training().at(object).value(key, now) == now) continue;
    fail(ExitCode::cannot_create,
         "{}: what --{} names has changed since the checkpoint was written; --allow-change {} goes on all "
         "the same; to begin anew, give --resume never",
         point.checkpoint.folder().string(), option, option);
  }
}

void warn_of_other_rows(const ResumePoint& point, const BatchPlan& batches) {
  if (point.step() == 0 || point.step() > batches.num_steps()) return;
  const StepRows last = batches.step(point.step() - 1);
  const nlohmann::ordered_json& data = point.training().at("data");
  const auto epoch = data.at("epoch").get<std::int64_t>(), rows = data.at("rows_done").get<std::int64_t>();
  if (last.epoch == epoch && last.first_row + last.num_rows == rows) return;
  spdlog::warn(
      "rows are skipped or trained again: step {} had trained {} rows of epoch {}, and with the options of "
      "now "
      "it is counted as {} rows of epoch {}",
      point.step(), rows, epoch + 1, last.first_row + last.num_rows, last.epoch + 1);
}

std::uint64_t checkpoint_bytes(const Model& model, const Strategy& strategy) {
  std::uint64_t elements = 0;
  for (const Parameter* one : model.parameters())
    if (one->trainable()) elements += static_cast<std::uint64_t>(one->spec().num_elements());
  return elements * (sizeof(float) + 2 * (strategy.bf16_moments ? 2 : sizeof(float)));
}

SavingPlan plan_saving(const SavingOptions& options, SavingQuestion question, const StepStore& store,
                       Communicator& ranks) {
  struct Numbers {
    std::int64_t steps = 0, keep = 0;
    double seconds = 0;
  };
  const Numbers mine = run_agreed(ranks, [&] {
    if (ranks.rank() != 0) return Numbers();
    question.free = free_space_of(store.directory());
    question.replaced = store.bytes_of_newest(options.keep + (options.keep_best ? 1 : 0));
    const SavingPlan plan = plan_saving(options, question);
    return Numbers{plan.interval.steps.value_or(0), plan.keep, plan.interval.seconds.value_or(0)};
  });
  const Numbers agreed = gather(ranks, mine).front();
  SavingPlan plan{{false, {}, {}}, agreed.keep};
  if (agreed.steps > 0) plan.interval.steps = agreed.steps;
  if (agreed.seconds > 0) plan.interval.seconds = agreed.seconds;
  return plan;
}

std::optional<BestCheckpoint> best_until(const ResumePoint& point, const StepStore& store,
                                         Communicator& ranks) {
  const auto best = point.training().find("best");
  if (best == point.training().end() || !best->is_object()) return std::nullopt;
  const BestCheckpoint found{best->at("step").get<std::int64_t>(), best->at("validation_loss").get<double>()};
  const bool is_there =
      run_agreed(ranks, [&] { return ranks.rank() == 0 && store.find_whole(found.step).has_value(); });
  if (gather(ranks, is_there ? 1 : 0).front() == 1) return found;
  if (ranks.rank() == 0)
    spdlog::warn(
        "the checkpoint of step {}, the best one until now, is not among the checkpoints in {}; the "
        "next best one takes its place",
        found.step, store.directory().string());
  return std::nullopt;
}

}  // namespace autoglm
