// What a job saves, when, and how it ends when it is asked to stop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/job/disk_patience.h"
#include "launcher/job/job.h"
#include "launcher/job/model_target.h"
#include "launcher/job/step_saver.h"
#include "launcher/report/training_report.h"
#include "trainer/training_loop.h"

namespace autoglm {

// What was reported of the run before the checkpoint that it goes on from.
ReportedSoFar reported_so_far(const RunIdentity& identity);

// `report` and `target` are null on ranks but 0. All but `store` must outlive the saver. Throws what plan_saving() throws.
// Collective.
StepSaver::Setup saver_setup(const Job& job, const Engine& engine, TrainingReport* report, StepStore store,
                             const ModelTarget* target, DiskPatience& patience);

// Runs the loop, and brings a save that is under way when it ends to its end, also where all ranks have met an error.
// Returns, and throws, what the loop does. Collective.
bool run_and_save(TrainingLoop& loop, StepSaver& saver, std::int64_t first_step);

// Fills what this rank holds from the model's directory or, for a run that goes on, from its checkpoint. Returns what
// load_weights() says.
std::string load_states(const Job& job, Engine& engine);

// With --export best: the weights of the best checkpoint, where its validation loss is lower than the last one, and that
// loss. None, with a warning, where that checkpoint is not as it was written. Throws AgreedError where it cannot be read
// all the same, and the weights are in part the last ones. Collective.
std::optional<double> load_best(const Job& job, Engine& engine, const StepSaver& saver,
                                const std::optional<double>& last_loss);

// Whether the sender of a signal waits for a checkpoint, so that the run should stop after one.
bool sender_waits(int signal, bool of_mpirun);

// Ends the job where its training was ended on request, and says so in run.json. Throws AgreedError(stopped), or
// AgreedError(io_failed) where there is no checkpoint. On all ranks.
[[noreturn]] void end_stopped(const Job& job, const StepSaver::Stopped& stopped, TrainingReport* report);

}  // namespace autoglm
