#include "launcher/job/training_job.h"

#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdlib>

#include "base/units.h"
#include "launcher/job/checkpoint_place.h"
#include "launcher/job/earlier_run.h"
#include "launcher/job/ending_signals.h"
#include "launcher/job/fault_injection.h"
#include "launcher/job/input_checks.h"
#include "launcher/job/job.h"
#include "launcher/job/job_device.h"
#include "launcher/job/job_inputs.h"
#include "launcher/job/job_output.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/job_progress.h"
#include "launcher/job/job_saving.h"
#include "launcher/job/memory_recovery.h"
#include "launcher/job/model_transfer.h"
#include "launcher/job/ranks.h"
#include "launcher/job/same_inputs.h"
#include "launcher/job/step_saver.h"
#include "launcher/job/stop_request.h"
#include "launcher/report/data_report.h"
#include "launcher/report/progress.h"
#include "launcher/report/run_record.h"
#include "launcher/report/training_report.h"
#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"
#include "trainer/engine/generator.h"
#include "trainer/training_loop.h"

namespace autoglm {
namespace {

// As many threads as processors that the rank with the fewest may use, unless the environment says otherwise:
// workspaces are per thread, and all ranks plan alike. Collective.
void set_threads(const LocalRank& local, Communicator& control) {
  const int num_processors = least(control, local.num_processors);
  if (std::getenv("OMP_NUM_THREADS") == nullptr) at::set_num_threads(num_processors);
}

std::string describe(const Job& job) {
  const Model& model = job.inputs.model;
  const BatchPlan& batches = job.decisions.batches;
  const std::int64_t micro_batches = batches.step(0).num_micro_batches;
  const std::int64_t rows = job.decisions.engine.strategy.micro_batch;
  const int num_ranks = job.ranks().size();
  return fmt::format(
      "{}\nmodel: {}, {} parameters, {} on {} {} rank{}{}\nplan: {} steps of up to {} rows of {} tokens, {} "
      "micro-{} of {} {} per rank; {}",
      format_data_summary(job.dataset), model.config.model_type, model.num_parameters(),
      precision_name(job.options.training.precision), num_ranks, job.device.is_cuda() ? "CUDA" : "CPU",
      num_ranks == 1 ? "" : "s",
      model.config.dropout > 0 ? fmt::format(", without its dropout of {}", model.config.dropout) : "",
      batches.num_steps(), job.options.training.loop.global_batch, job.options.data.sequence_length,
      micro_batches, micro_batches == 1 ? "batch" : "batches", rows, rows == 1 ? "row" : "rows",
      describe(job.decisions.job));
}

// Brings what is measured to the report, which rank 0 alone has, and answers the prompts of --sample.
class Reporting : public LoopListener {
 public:
  Reporting(const Job& job, Engine& engine, TrainingReport* report)
      : job_(job), engine_(engine), report_(report) {}

  void after_step(const StepReport& step) override {
    const RankExtremes largest = largest_of_ranks(job_.ranks(), step);
    if (report_) report_->step(step, largest);
  }

  void after_evaluation(std::int64_t step, double loss) override {
    if (report_) report_->evaluation(step, loss);
    if (step > 0 && step < job_.decisions.batches.num_steps()) show_samples();
  }

  // Collective.
  void end_phase(JobPhase phase) {
    const std::int64_t peak = take_resident_peak(job_.ranks());
    if (report_) report_->resident_peak(phase, peak);
  }

  // All ranks generate, rank 0 shows.
  void show_samples() {
    const JobInputs& inputs = job_.inputs;
    const std::int64_t room = engine_.options().max_positions - kSampleTokens;
    for (const std::string& prompt : job_.options.watching.samples) {
      const std::vector<std::int32_t> ids = inputs.chat_template.encode_prompt(prompt, inputs.tokenizer);
      if (static_cast<std::int64_t>(ids.size()) > room) {
        if (report_)
          spdlog::warn("--sample \"{}\" is longer than --sequence-length leaves room for; it is left out",
                       prompt);
        continue;
      }
      const std::vector<std::int32_t> answer =
          generate(engine_, ids, kSampleTokens, inputs.chat_template.stop_ids(inputs.tokenizer));
      if (report_) report_->sample(prompt, inputs.tokenizer.decode(answer, true));
    }
  }

 private:
  const Job& job_;
  Engine& engine_;
  TrainingReport* report_;
};

// The last evaluation, on the weights as they will be written.
void evaluate_last(const Job& job, Engine& engine, TrainingLoop& loop, const StepSaver& saver) {
  const std::int64_t last = job.decisions.batches.num_steps();
  const auto dtypes = saved_dtypes(job.inputs.directory, job.options.saving.save_dtype);
  const std::optional<DType> rounded_to =
      narrowest_saved(job.inputs.model, dtypes, engine.options().precision);
  std::optional<double> exact = loop.evaluate(last);
  if (const auto best = load_best(job, engine, saver, exact)) exact = best;
  engine.state_access().settle();
  run_agreed(job.ranks(), [&] { engine.state_access().check_saved_range(dtypes); });
  if (!rounded_to) return;
  engine.state_access().round_to_saved(dtypes);
  const std::optional<double> rounded = loop.evaluate(last);
  if (job.output && exact && *rounded > *exact * 1.001) {
    spdlog::warn(
        "rounding the weights to {} raised the validation loss from {:.4f} to {:.4f}; --save-dtype fp32 "
        "keeps them exact",
        dtype_name(*rounded_to), *exact, *rounded);
  }
}

// The engine with its weights. Where its states do not fit, the plan is made again.
std::unique_ptr<Engine> make_engine(Job& job, MemoryRecovery& recovery) {
  Communicator& ranks = job.ranks();
  Decisions& decisions = job.decisions;
  while (true) {
    std::unique_ptr<Engine> engine;
    const std::optional<OutOfMemory> failure = run_agreed(ranks, [&] {
      return run_within_memory(
          [&] { engine = std::make_unique<Engine>(job.inputs.model, decisions.engine, ranks); });
    });
    if (!recovery.recover_construction(failure ? &*failure : nullptr)) {
      const std::string mine = run_agreed(ranks, [&] { return load_states(job, *engine); });
      const std::vector<std::string> all = gather_text(ranks, mine);
      const auto broken = std::ranges::find_if(all, [](const std::string& one) { return !one.empty(); });
      if (broken != all.end()) {
        job.broken_weights = *broken;
        spdlog::warn("the model came with values that are not finite: {}; fetch or save it again", *broken);
      }
      recovery.attach(*engine);
      return engine;
    }
    engine.reset();
    decisions.engine.strategy = decisions.job.strategy();
    decisions.batches = decisions.batches.with_micro_batch(decisions.engine.strategy.micro_batch);
  }
}

// On rank 0; null on others.
std::unique_ptr<TrainingReport> open_report(const Job& job) {
  const nlohmann::ordered_json ranks = describe_ranks(job.ranks(), job.local.rank, job.device);
  const JobPlan& plan = job.decisions.job;
  return run_agreed(job.ranks(), [&]() -> std::unique_ptr<TrainingReport> {
    if (!job.output) return nullptr;
    job.output->directory.begin();
    return std::make_unique<TrainingReport>(
        job.options, job.decisions.to_json(), ranks, job.local.mpi_version, job.output->directory,
        job.decisions.batches.num_steps(),
        MemoryExpectation{plan.plan.predicted, plan.budget.device, plan.predicted_resident()},
        RunMarks{job.identity.run, to_json(job.marks)}, reported_so_far(job.identity));
  });
}

void train_and_write(Job& job, const StepStore& store, TrainingReport* report, DiskPatience& patience,
                     const StopRequest& stop) {
  Communicator& ranks = job.ranks();
  // On rank 0; null on others.
  const auto target = run_agreed(ranks, [&] {
    return job.output ? open_target(*job.output, job.options, job.inputs, patience) : nullptr;
  });
  MemoryRecovery recovery(
      job.options, job.decisions.job, ranks, [] { return job_memory().statistics().device.limit; },
      [&](const MemoryEvent& event) {
        // What the failed attempt held is neither kept nor compared with the next plan.
        job_memory().trim();
        job_memory().reset_peak();
        if (report != nullptr) report->out_of_memory(event, job.decisions.job.plan.predicted);
      });
  const std::unique_ptr<Engine> engine = make_engine(job, recovery);
  Reporting reporting(job, *engine, report);
  reporting.end_phase(JobPhase::loading);
  const std::int64_t first_step = job.identity.resume ? job.identity.resume->step() : 0;
  if (first_step == 0) reporting.show_samples();
  job_memory().reset_peak();

  FaultInjection faults(ranks.rank());
  StepSaver saver(saver_setup(job, *engine, report, store, target.get(), patience), *engine, ranks, stop);
  TrainingLoop loop(*engine, job.dataset, job.decisions.batches, ranks, job.options.training.loop,
                    {&faults, &saver, &recovery, &reporting},
                    {job.broken_weights, [&](std::uint32_t sample) {
                       return describe_sample(job.dataset, job.inputs.tokenizer, sample);
                     }});
  if (!run_and_save(loop, saver, first_step)) end_stopped(job, *saver.stopped(), report);
  evaluate_last(job, *engine, loop, saver);
  reporting.show_samples();
  // What activations held is free for the writer.
  job_memory().trim();
  reporting.end_phase(JobPhase::training);

  run_agreed(ranks, [&] {
    write_model(job.inputs.directory, *engine, target.get(), job.options.saving.save_dtype, ranks);
    if (job.output) tell_changes(*job.output, job.inputs.directory);
  });
  reporting.end_phase(JobPhase::saving);
  run_agreed(ranks, [&] {
    if (report) finish_report(*job.output, *report, patience);
  });
}

// Whatever ends the run, run.json says so: a failure, or a signal, which also ends a wait for a full disk.
void train(Job& job, const StepStore& store, StopRequest& stop) {
  const FaultInjection faults(job.ranks().rank());
  DiskPatience patience(std::chrono::seconds(faults.disk_patience_seconds().value_or(30 * 60)),
                        end_of_slurm_job(std::getenv("SLURM_JOB_END_TIME")));
  // What Slurm and Kubernetes leave by default.
  const auto stop_patience = static_cast<double>(faults.stop_patience_seconds().value_or(30));
  const std::unique_ptr<TrainingReport> report = open_report(job);
  const OnEndingSignal on_signal([&](int signal) {
    if (patience.stop()) return AfterSignal::go_on;
    const bool asks = signal == SIGUSR1 || signal == SIGUSR2;
    if (asks || (sender_waits(signal, job.local.of_mpirun) && stop.ask(stop_patience))) {
      if (report) spdlog::info("stops after the step that is under way, with a checkpoint");
      return AfterSignal::go_on;
    }
    if (report) end_by_signal(signal, *job.output, *report);
    return AfterSignal::end;
  });
  try {
    try {
      train_and_write(job, store, report.get(), patience, stop);
    } catch (const OutOfMemory& error) {
      fail(ExitCode::does_not_fit, "{}; lower --micro-batch, or set --recompute full", error.what());
    } catch (const AgreedError&) {
      throw;
    } catch (const std::exception& error) {
      const std::optional<OutOfMemory> full = as_out_of_memory(error.what());
      if (!full) throw;
      fail(ExitCode::does_not_fit,
           "{}: libraries found no room beside what was planned; end other programs on the device, or lower "
           "--memory-limit",
           full->what());
    }
  } catch (...) {
    if (report) report->fail(summarize_failure(std::current_exception()));
    throw;
  }
}

}  // namespace

void run_training_job(const TrainOptions& options, Communicator& control, const LocalRank& local) {
  StopRequest stop(options.saving.stop_after, end_of_slurm_job(std::getenv("SLURM_JOB_END_TIME")));
  check_same(control, "the options", to_json(options).dump());
  set_threads(local, control);
  JobDevice device({options.strategy.device, options.strategy.memory_limit, at::get_num_threads(),
                    options.strategy.pins.reduce_scatter},
                   local, control);
  Communicator& ranks = device.communicator();
  const bool finished = has_finished_alike(options, ranks);
  JobInputs inputs = run_agreed(ranks, [&] { return read_inputs(options); });
  check_same_inputs(ranks, inputs.directory, options.data);
  RunIdentity identity = identify_run(options, ranks);
  run_agreed(ranks, [&] {
    if (identity.resume) check_resume_point(*identity.resume, inputs.model);
  });
  std::unique_ptr<JobOutput> output;
  if (!finished) output = open_output(options, inputs, ranks, identity.goes_on);
  if (!finished) check_still_so(options, identity, ranks);
  Dataset dataset = load_data(options, inputs, ranks);
  const InputMarks marks = mark_inputs(inputs, dataset, ranks);
  if (finished) return tell_finished(options, marks, ranks);
  run_agreed(ranks, [&] {
    if (identity.resume && ranks.rank() == 0) check_resumed_inputs(*identity.resume, options, marks);
  });
  run_agreed(ranks, [&] {
    if (output) export_for_data(*output, options, inputs, dataset);
  });
  Decisions decisions = decide(options, identity, inputs, dataset, device, local);
  Job job{options,
          local,
          device,
          std::move(inputs),
          std::move(dataset),
          std::move(decisions),
          std::move(output),
          std::move(identity),
          marks};
  if (ranks.rank() == 0) stderr_console().print(describe(job));
  if (ranks.rank() == 0 && job.identity.resume)
    warn_of_other_rows(*job.identity.resume, job.decisions.batches);
  if (options.watching.dry_run) return;
  // What is planned for is all there is, so that too much is met here and not by the system's out-of-memory
  // killer.
  job_memory().device().set_limit(job.decisions.job.budget.device);
  const FaultInjection faults(ranks.rank());
  if (faults.arena_limit()) job_memory().device().set_limit(*faults.arena_limit());
  const CheckpointPlace place = take_checkpoint_place(options, job.identity, ranks);
  // While the record is still of the run before: a job that is killed here leaves nothing of it that nobody knows.
  clear_checkpoint_place(place.store, job.identity, ranks);
  train(job, place.store, stop);
}

}  // namespace autoglm
