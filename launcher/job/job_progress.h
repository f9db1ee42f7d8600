// What a checkpoint's manifest says of a training, beside its states: enough to go on with it.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "launcher/job/input_marks.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/resume_point.h"
#include "launcher/job/saving_plan.h"
#include "launcher/job/step_saver.h"
#include "launcher/options/train_options.h"
#include "trainer/data/batch_plan.h"
#include "trainer/data/dataset.h"

namespace autoglm {

// The object "model" in it: what autoglm-export, which builds no model, needs to know of one.
nlohmann::ordered_json model_record(const ModelDirectory& directory, const Model& model,
                                    const InputMarks& marks);

// The object "training": options, the strategy with its chunks and rows, the place in the data, and what was reported.
nlohmann::ordered_json job_progress(const TrainOptions& options, const JobPlan& plan,
                                    const Strategy& strategy, const BatchPlan& batches, std::int64_t step);

// Asserts that a checkpoint is of this model, and of these inputs unless --allow-change data or model says otherwise.
// Throws Error(bad_data), Error(cannot_create).
void check_resume_point(const ResumePoint& point, const Model& model);
void check_resumed_inputs(const ResumePoint& point, const TrainOptions& options, const InputMarks& marks);

// Where a changed global batch, or changed data, put the step at another place in the data.
void warn_of_other_rows(const ResumePoint& point, const BatchPlan& batches);

// plan_saving() with what rank 0 finds free in the store's folder, on every rank. Collective.
SavingPlan plan_saving(const SavingOptions& options, SavingQuestion question, const StepStore& store,
                       Communicator& ranks);

// The best checkpoint until then stays the one to beat, where it is in the store and whole. Collective.
std::optional<BestCheckpoint> best_until(const ResumePoint& point, const StepStore& store,
                                         Communicator& ranks);

// Bytes of a checkpoint of all ranks, its headers not counted.
std::uint64_t checkpoint_bytes(const Model& model, const Strategy& strategy);

}  // namespace autoglm
