// A job of which everything is known that must be known before it takes memory.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "launcher/job/earlier_run.h"
#include "launcher/job/input_marks.h"
#include "launcher/job/job_device.h"
#include "launcher/job/job_inputs.h"
#include "launcher/job/job_output.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/local_rank.h"
#include "launcher/options/train_options.h"
#include "trainer/data/batch_plan.h"
#include "trainer/data/dataset.h"
#include "trainer/engine/engine_options.h"

namespace autoglm {

// Longest answer to --sample, in tokens.
inline constexpr std::int64_t kSampleTokens = 64;

// Everything that is decided before the first tensor is allocated.
struct Decisions {
  EngineOptions engine;
  BatchPlan batches;
  std::int64_t warmup_steps;
  JobPlan job;

  // The plan, for run.json.
  nlohmann::ordered_json to_json() const;
};

// What the options ask for; for a run that goes on with what the checkpoint was trained with, where that can be. Throws
// what plan_job() throws. Collective.
Decisions decide(const TrainOptions& options, const RunIdentity& identity, const JobInputs& inputs,
                 const Dataset& dataset, JobDevice& device, const LocalRank& local);

struct Job {
  const TrainOptions& options;
  LocalRank local;
  JobDevice& device;
  JobInputs inputs;
  Dataset dataset;
  Decisions decisions;
  std::unique_ptr<JobOutput> output;  // on rank 0, unless nothing is to be written
  RunIdentity identity;
  InputMarks marks;
  std::string broken_weights = {};  // tensors that were not finite when they were read

  Communicator& ranks() const { return device.communicator(); }
};

}  // namespace autoglm
