// What a job saves, when, and how it ends when it is asked to stop.
#pragma once

#include <optional>
#include <string>

#include "launcher/job/job.h"
#include "launcher/job/step_saver.h"
#include "launcher/report/training_report.h"

namespace autoglm {

// What was reported of the run before the checkpoint that it goes on from.
ReportedSoFar reported_so_far(const RunIdentity& identity);

// `report` is null on ranks but 0. All but `store` must outlive the saver. Throws what plan_saving() throws. Collective.
StepSaver::Setup saver_setup(const Job& job, const Engine& engine, TrainingReport* report, StepStore store);

// Fills what this rank holds from the model's directory or, for a run that goes on, from its checkpoint. Returns what
// load_weights() says.
std::string load_states(const Job& job, Engine& engine);

// With --export best: the weights of the best checkpoint, where its validation loss is lower than the last one, and that
// loss. Throws AgreedError where it cannot be read. Collective.
std::optional<double> load_best(const Job& job, Engine& engine, const StepSaver& saver,
                                const std::optional<double>& last_loss);

// Whether the sender of a signal waits for a checkpoint, so that the run should stop after one.
bool sender_waits(int signal, bool of_mpirun);

// Ends the job where its training was ended on request, and says so in run.json. Throws AgreedError(stopped), or
// AgreedError(io_failed) where there is no checkpoint. On all ranks.
[[noreturn]] void end_stopped(const Job& job, const StepSaver::Stopped& stopped, TrainingReport* report);

}  // namespace autoglm
