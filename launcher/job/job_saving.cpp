#include "launcher/job/job_saving.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "checkpoint/model_writer.h"
#include "checkpoint/step_store/checkpoint_reader.h"
#include "launcher/job/job_progress.h"
#include "sharding/agree.h"

namespace autoglm {

ReportedSoFar reported_so_far(const RunIdentity& identity) {
  if (!identity.resume || !identity.goes_on) return {};
  return {identity.resume->step(), identity.resume->training().at("report")};
}

StepSaver::Setup saver_setup(const Job& job, const Engine& engine, TrainingReport* report, StepStore store) {
  const Decisions& decisions = job.decisions;
  const std::int64_t first = job.identity.resume ? job.identity.resume->step() : 0;
  SavingQuestion question;
  question.estimated_seconds =
      decisions.job.plan.chosen.time.total() * static_cast<double>(decisions.batches.num_steps() - first);
  question.checkpoint_bytes = checkpoint_bytes(job.inputs.model, decisions.engine.strategy);
  if (job.output && job.options.saving.checkpoint_dir.empty())
    question.model_bytes = ModelWriter::bytes_needed(job.inputs.directory, job.output->side_files,
                                                     job.options.saving.save_dtype);
  const SavingPlan plan = plan_saving(job.options, question, job.ranks());
  StepSaver::Setup setup{std::move(store), plan.interval, plan.keep, job.options.saving.keep_best,
                         decisions.batches.num_steps()};
  if (job.identity.resume) keep_best_of(*job.identity.resume, setup);
  if (report == nullptr) return setup;
  setup.progress = [&job, &engine, report](std::int64_t step) {
    nlohmann::ordered_json progress =
        job_progress(job.options, job.decisions.job, engine.options().strategy, job.decisions.batches, step);
    progress["data"]["fingerprint"] = job.marks.data;
    progress["data"]["chats"] = !job.dataset.summary().is_wholly_trained();
    progress["model"] = model_record(job.inputs.directory, job.inputs.model, job.marks);
    progress["report"] = report->so_far();
    return progress;
  };
  setup.make_durable = [report] { report->sync(); };
  setup.report = [report](const SaveReport& save) { report->saved(save); };
  return setup;
}

std::string load_states(const Job& job, Engine& engine) {
  const std::optional<DType> save_dtype = job.options.saving.save_dtype;
  if (!job.identity.resume) return load_weights(job.inputs.directory, engine, save_dtype);
  const CheckpointReader& checkpoint = job.identity.resume->checkpoint;
  const std::string broken =
      load_weights(job.inputs.directory, engine, save_dtype, trained_weights(checkpoint));
  load_moments(checkpoint, engine);
  return broken;
}

std::optional<double> load_best(const Job& job, Engine& engine, const StepSaver& saver,
                                const std::optional<double>& last_loss) {
  if (job.options.saving.exported != ExportedWeights::best || !saver.best_step()) return std::nullopt;
  if (last_loss && *last_loss <= saver.best_loss()) return std::nullopt;
  Communicator& ranks = job.ranks();
  run_agreed(ranks, [&] {
    const auto folders = list_step_folders(checkpoint_directory(job.options));
    const auto found = std::ranges::find(folders, *saver.best_step(), &StepFolder::step);
    if (found == folders.end())
      fail(ExitCode::io_failed, "the checkpoint of step {}, the best one, is gone", *saver.best_step());
    const CheckpointReader best = CheckpointReader::open(found->path);
    best.verify(ranks.rank(), ranks.size());
    load_weights(job.inputs.directory, engine, job.options.saving.save_dtype, trained_weights(best));
  });
  if (ranks.rank() == 0)
    spdlog::info("the weights after step {} are written, whose validation loss {:.4f} is the lowest",
                 *saver.best_step(), saver.best_loss());
  return saver.best_loss();
}

// mpirun kills ranks two seconds after the SIGTERM or SIGINT that it sends them, whatever they do: too soon for a
// checkpoint. Other senders wait.
bool sender_waits(int signal, bool of_mpirun) {
  return (signal == SIGTERM || signal == SIGINT) && !of_mpirun;
}

void end_stopped(const Job& job, const StepSaver::Stopped& stopped, TrainingReport* report) {
  if (!stopped.failure.empty()) {
    throw AgreedError(ExitCode::io_failed,
                      fmt::format("stopped on request after step {}, of which there is no checkpoint: {}",
                                  stopped.step, stopped.failure));
  }
  const std::string whose =
      stopped.checkpoint == stopped.step
          ? "whose checkpoint is in place"
          : fmt::format("for whose checkpoint there was no time: that of step {} is in place",
                        stopped.checkpoint);
  const std::string sentence =
      fmt::format("stopped on request after step {} of {}, {}; the same command goes on from it",
                  stopped.step, job.decisions.batches.num_steps(), whose);
  if (report) report->stopped(sentence);
  throw AgreedError(ExitCode::stopped, sentence);
}

}  // namespace autoglm
