#include "launcher/job/job_saving.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "base/error.h"
#include "checkpoint/file.h"
#include "checkpoint/step_store/checkpoint_reader.h"
#include "launcher/job/fault_injection.h"
#include "launcher/job/job_progress.h"
#include "sharding/agree.h"

namespace autoglm {

ReportedSoFar reported_so_far(const RunIdentity& identity) {
  if (!identity.resume || !identity.goes_on) return {};
  return {identity.resume->step(), identity.resume->training().at("report")};
}

namespace {

bool wait_for_room(DiskPatience& patience, const std::filesystem::path& folder, std::uint64_t bytes,
                   const std::string& failure) {
  try {
    patience.wait(
        DiskFull(ExitCode::io_failed, failure),
        [&] { return free_space_of(folder).value_or(0) > bytes + (1U << 20); }, "the checkpoint to end with");
    patience.end();
    return true;
  } catch (const DiskFull&) {
    return false;
  }
}

// Reads the headers of a checkpoint that rank 0 has found, which other hosts may see a little later.
CheckpointReader open_found(const std::filesystem::path& folder) {
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    try {
      return CheckpointReader::open(folder);
    } catch (const Error& error) {
      if (error.code() == ExitCode::bad_data || tries == kTries) throw;
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }
}

// The best checkpoint, verified by all ranks together; or none, and the sentence that says why. Collective.
std::optional<CheckpointReader> open_best(const StepSaver& saver, Communicator& ranks, std::string& problem) {
  const std::string path = gather_text(ranks, run_agreed(ranks,
                                                         [&] {
                                                           if (ranks.rank() != 0) return std::string();
                                                           const auto found =
                                                               saver.store().find_whole(saver.best()->step);
                                                           return found ? found->string() : "";
                                                         }))
                               .front();
  std::optional<CheckpointReader> best;
  try {
    if (path.empty()) fail(ExitCode::io_failed, "it is gone");
    best = open_found(path);
    best->verify(ranks.rank(), ranks.size());
  } catch (const Error& error) {
    problem = error.what();
  }
  for (const std::string& one : gather_text(ranks, problem)) {
    if (one.empty()) continue;
    problem = one;
    return std::nullopt;
  }
  return best;
}

}  // namespace

StepSaver::Setup saver_setup(const Job& job, const Engine& engine, TrainingReport* report, StepStore store,
                             const ModelTarget* target, DiskPatience& patience) {
  const Decisions& decisions = job.decisions;
  const std::int64_t first = job.identity.resume ? job.identity.resume->step() : 0;
  SavingQuestion question;
  question.estimated_seconds =
      decisions.job.plan.chosen.time.total() * static_cast<double>(decisions.batches.num_steps() - first);
  question.checkpoint_bytes = checkpoint_bytes(job.inputs.model, decisions.engine.strategy);
  if (target && job.options.saving.checkpoint_dir.empty()) question.model_bytes = target->missing_bytes();
  const SavingPlan plan = plan_saving(job.options.saving, question, store, job.ranks());
  StepSaver::Setup setup{std::move(store), plan.interval, plan.keep, job.options.saving.keep_best,
                         decisions.batches.num_steps()};
  if (job.identity.resume) setup.best = best_until(*job.identity.resume, setup.store, job.ranks());
  const FaultInjection faults(job.ranks().rank());
  setup.failing = faults.failing_saves();
  setup.alone = faults.saves_alone();
  if (faults.save_retry_seconds())
    setup.first_retry_seconds = static_cast<double>(*faults.save_retry_seconds());
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
  setup.wait_for_room = [&patience, folder = setup.store.directory(),
                         bytes = question.checkpoint_bytes](const std::string& failure) {
    return wait_for_room(patience, folder, bytes, failure);
  };
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

bool run_and_save(TrainingLoop& loop, StepSaver& saver, std::int64_t first_step) {
  bool whole = false;
  try {
    whole = loop.run(first_step);
  } catch (const AgreedError&) {
    // No rank is missing, and what they have written is worth a checkpoint.
    saver.finish();
    throw;
  }
  saver.finish();
  return whole;
}

std::optional<double> load_best(const Job& job, Engine& engine, const StepSaver& saver,
                                const std::optional<double>& last_loss) {
  if (job.options.saving.exported != ExportedWeights::best || !saver.best()) return std::nullopt;
  const BestCheckpoint best = *saver.best();
  if (last_loss && *last_loss <= best.loss) return std::nullopt;
  Communicator& ranks = job.ranks();
  std::string problem;
  const std::optional<CheckpointReader> checkpoint = open_best(saver, ranks, problem);
  if (!checkpoint) {
    if (ranks.rank() == 0)
      spdlog::warn(
          "the checkpoint of step {}, whose validation loss {:.4f} is the lowest, cannot be used: {}; "
          "the last weights are written",
          best.step, best.loss, problem);
    return std::nullopt;
  }
  run_agreed(ranks, [&] {
    load_weights(job.inputs.directory, engine, job.options.saving.save_dtype, trained_weights(*checkpoint));
  });
  if (ranks.rank() == 0)
    spdlog::info("the weights after step {} are written, whose validation loss {:.4f} is the lowest",
                 best.step, best.loss);
  return best.loss;
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
      fmt::format("stopped on request after step {} of {}, {}; the same command{} goes on from it",
                  stopped.step, job.decisions.batches.num_steps(), whose,
                  job.options.saving.resume == "auto" ? "" : " without --resume");
  if (report) report->stopped(sentence);
  throw AgreedError(ExitCode::stopped, sentence);
}

}  // namespace autoglm
