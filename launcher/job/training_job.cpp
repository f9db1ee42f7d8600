#include "launcher/job/training_job.h"

#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <thread>

#include "base/units.h"
#include "checkpoint/output_directory.h"
#include "launcher/job/fault_injection.h"
#include "launcher/job/job_device.h"
#include "launcher/job/job_plan.h"
#include "launcher/job/memory_recovery.h"
#include "launcher/job/model_transfer.h"
#include "launcher/job/ranks.h"
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

// Longest answer to --sample, in tokens.
constexpr std::int64_t kSampleTokens = 64;

// What every rank reads before anything is allocated.
struct Inputs {
  ModelDirectory directory;
  Model model;
  Tokenizer tokenizer;
  ChatTemplate chat_template;
};

// One thread per core of the host, shared among its ranks, unless the environment says otherwise.
void set_threads(const LocalRank& local) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  at::set_num_threads(std::max(1, cores / local.size));
}

Inputs read_inputs(const TrainOptions& options) {
  ModelDirectory directory = ModelDirectory::open(options.model);
  Model model = make_model(model_config_of(directory));
  check_positions(model.config, "--sequence-length", options.data.sequence_length);
  check_recompute_layers(options.strategy.pins, model.config.num_layers);
  check_model_files(directory, model);
  freeze_parameters(model, options.training.freeze);
  Tokenizer tokenizer = Tokenizer::load(options.model);
  ChatTemplate chat_template =
      ChatTemplate::select(options.data.template_name, options.model, tokenizer, options.data.end_of_turn);
  return {std::move(directory), std::move(model), std::move(tokenizer), std::move(chat_template)};
}

void check_vocabulary(const Dataset& dataset, const Model& model) {
  for (std::size_t i = 0; i < dataset.samples().size(); ++i) {
    for (const std::int32_t id : dataset.samples().ids(i)) {
      if (id >= model.config.vocabulary_size) {
        fail(ExitCode::bad_data,
             "the tokenizer gives id {}, but the model's vocabulary has {} entries: tokenizer.json "
             "belongs to another model",
             id, model.config.vocabulary_size);
      }
    }
  }
}

Dataset load_data(const TrainOptions& options, const Inputs& inputs, Communicator& communicator) {
  LoadContext context;
  context.communicator = &communicator;
  context.num_threads = at::get_num_threads();
  if (communicator.rank() == 0) {
    context.progress = [](std::uint64_t done, std::uint64_t total) {
      if (total == 0) return;
      stderr_console().set_live_line(fmt::format("reading data: {} %", 100 * done / total));
    };
  }
  Dataset dataset = load_dataset(options.data, inputs.tokenizer, inputs.chat_template, context);
  stderr_console().set_live_line("");
  run_agreed(communicator, [&] { check_vocabulary(dataset, inputs.model); });
  return dataset;
}

EngineOptions engine_options(const TrainOptions& options, const ModelConfig& config) {
  EngineOptions engine;
  engine.precision = options.training.precision;
  engine.row_length = options.data.sequence_length;
  engine.max_positions = options.data.sequence_length + kSampleTokens;
  if (const auto limit = config.position_limit())
    engine.max_positions = std::min(engine.max_positions, *limit);
  engine.seed = options.training.seed;
  return engine;
}

// Everything that is decided before the first tensor is allocated.
struct Decisions {
  EngineOptions engine;
  BatchPlan batches;
  std::int64_t warmup_steps;
  JobPlan job;

  nlohmann::ordered_json to_json() const {
    nlohmann::ordered_json plan = {{"steps", batches.num_steps()}, {"warmup_steps", warmup_steps}};
    plan.update(autoglm::to_json(job));
    return plan;
  }
};

// Collective.
Decisions decide(const TrainOptions& options, const Inputs& inputs, const Dataset& dataset, JobDevice& device,
                 const LocalRank& local) {
  Communicator& communicator = device.communicator();
  EngineOptions engine = engine_options(options, inputs.model.config);
  engine.device = device.device();
  const LoopOptions& loop = options.training.loop;
  JobPlan job = plan_job(options, inputs.model, engine.max_positions, device, local);
  engine.strategy = job.strategy();
  return run_agreed(communicator, [&] {
    BatchPlan batches(count_rows(dataset, loop), loop.global_batch, communicator.size(),
                      engine.strategy.micro_batch, loop.steps);
    const std::int64_t warmup = warmup_steps(loop.schedule.warmup, batches.num_steps());
    return Decisions{engine, std::move(batches), warmup, std::move(job)};
  });
}

// A job of which everything is known that must be known before it takes memory.
struct Job {
  const TrainOptions& options;
  LocalRank local;
  JobDevice& device;
  Inputs inputs;
  Dataset dataset;
  Decisions decisions;
  std::unique_ptr<OutputDirectory> output;  // on rank 0, unless nothing is to be written

  Communicator& ranks() const { return device.communicator(); }
};

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
    const Inputs& inputs = job_.inputs;
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
void evaluate_last(const Job& job, Engine& engine, TrainingLoop& loop) {
  const std::int64_t last = job.decisions.batches.num_steps();
  const auto dtypes = saved_dtypes(job.inputs.directory, job.options.saving.save_dtype);
  const bool rounds = engine.options().precision == Precision::fp32 &&
                      dtypes(job.inputs.model.embedding().table().name()) == DType::bfloat16;
  const std::optional<double> exact = loop.evaluate(last);
  if (!rounds) return;
  engine.state_access().round_to_saved(dtypes);
  const std::optional<double> rounded = loop.evaluate(last);
  if (job.output && exact && *rounded > *exact * 1.001) {
    spdlog::warn(
        "rounding the weights to bf16 raised the validation loss from {:.4f} to {:.4f}; --save-dtype fp32 "
        "keeps them exact",
        *exact, *rounded);
  }
}

// The engine with its weights. Where its states do not fit, the plan is made again.
std::unique_ptr<Engine> make_engine(Job& job, MemoryRecovery& recovery) {
  Communicator& ranks = job.ranks();
  Decisions& decisions = job.decisions;
  while (true) {
    std::unique_ptr<Engine> engine;
    std::optional<OutOfMemory> failure;
    run_agreed(ranks, [&] {
      try {
        engine = std::make_unique<Engine>(job.inputs.model, decisions.engine, ranks);
      } catch (const OutOfMemory& error) {
        failure = error;
      }
    });
    if (!recovery.recover_construction(failure ? &*failure : nullptr)) {
      run_agreed(ranks, [&] { load_weights(job.inputs.directory, *engine); });
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
    job.output->begin();
    return std::make_unique<TrainingReport>(
        job.options, job.decisions.to_json(), ranks, job.local.mpi_version, *job.output,
        job.decisions.batches.num_steps(),
        MemoryExpectation{plan.plan.predicted, plan.budget.device, plan.predicted_resident()});
  });
}

void train(Job& job) {
  Communicator& ranks = job.ranks();
  const std::unique_ptr<TrainingReport> report = open_report(job);
  MemoryRecovery recovery(
      job.options, job.decisions.job, ranks, [] { return job_memory().statistics().device.limit; },
      [&](const MemoryEvent& event) {
        // What the failed attempt held is neither kept nor compared with the next plan.
        job_memory().trim();
        job_memory().reset_peak();
        if (report) report->out_of_memory(event, job.decisions.job.plan.predicted);
      });
  const std::unique_ptr<Engine> engine = make_engine(job, recovery);
  Reporting reporting(job, *engine, report.get());
  reporting.end_phase(JobPhase::loading);
  reporting.show_samples();
  job_memory().reset_peak();

  FaultInjection faults(ranks.rank());
  TrainingLoop loop(*engine, job.dataset, job.decisions.batches, ranks, job.options.training.loop,
                    {&faults, &recovery, &reporting});
  loop.run();
  evaluate_last(job, *engine, loop);
  reporting.show_samples();
  // What activations held is free for the writer.
  job_memory().trim();
  reporting.end_phase(JobPhase::training);

  run_agreed(ranks, [&] {
    write_model(job.inputs.directory, *engine, job.output ? job.output->path() : job.options.output,
                job.options.saving.save_dtype, job.output != nullptr);
  });
  reporting.end_phase(JobPhase::saving);
  run_agreed(ranks, [&] {
    if (report) report->finish();
  });
}

// Takes the folder, on rank 0, unless nothing is to be written.
std::unique_ptr<OutputDirectory> open_output(const TrainOptions& options, const Inputs& inputs,
                                             Communicator& ranks) {
  return run_agreed(ranks, [&]() -> std::unique_ptr<OutputDirectory> {
    if (ranks.rank() != 0) return nullptr;
    if (options.watching.dry_run) {
      OutputDirectory::check(options.output, inputs.directory, options.saving.overwrite);
      return nullptr;
    }
    auto output =
        std::make_unique<OutputDirectory>(options.output, inputs.directory, options.saving.overwrite);
    output->require_space(ModelWriter::bytes_needed(inputs.directory, options.saving.save_dtype));
    return output;
  });
}

}  // namespace

void run_training_job(const TrainOptions& options, Communicator& control, const LocalRank& local) {
  check_same(control, "the options", to_json(options).dump());
  set_threads(local);
  JobDevice device({options.strategy.device, options.strategy.memory_limit, at::get_num_threads()}, local,
                   control);
  Communicator& ranks = device.communicator();
  Inputs inputs = run_agreed(ranks, [&] { return read_inputs(options); });
  std::unique_ptr<OutputDirectory> output = open_output(options, inputs, ranks);
  Dataset dataset = load_data(options, inputs, ranks);
  Decisions decisions = decide(options, inputs, dataset, device, local);
  Job job{options,          local, device, std::move(inputs), std::move(dataset), std::move(decisions),
          std::move(output)};
  if (ranks.rank() == 0) stderr_console().print(describe(job));
  if (options.watching.dry_run) return;
  // What is planned for is all there is, so that too much is met here and not by the system's out-of-memory
  // killer.
  job_memory().device().set_limit(job.decisions.job.budget.device);
  const FaultInjection faults(ranks.rank());
  if (faults.arena_limit()) job_memory().device().set_limit(*faults.arena_limit());
  try {
    train(job);
  } catch (const OutOfMemory& error) {
    fail(ExitCode::does_not_fit, "{}; lower --micro-batch, or set --recompute full", error.what());
  }
}

}  // namespace autoglm
