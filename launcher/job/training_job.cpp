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

std::string describe(const TrainOptions& options, const Inputs& inputs, const Dataset& dataset,
                     const Decisions& decisions, const JobDevice& device, int world_size) {
  const StepRows first = decisions.batches.step(0);
  return fmt::format(
      "{}\nmodel: {}, {} parameters, {} on {} {}{}\nplan: {} steps of up to {} rows of {} tokens, {} "
      "micro-{} "
      "of {} {} per rank; {}",
      format_data_summary(dataset), inputs.model.config.model_type, inputs.model.num_parameters(),
      precision_name(decisions.engine.precision), world_size,
      fmt::format("{} rank{}", device.is_cuda() ? "CUDA" : "CPU", world_size == 1 ? "" : "s"),
      inputs.model.config.dropout > 0
          ? fmt::format(", without its dropout of {}", inputs.model.config.dropout)
          : "",
      decisions.batches.num_steps(), options.training.loop.global_batch, options.data.sequence_length,
      first.num_micro_batches, first.num_micro_batches == 1 ? "batch" : "batches",
      decisions.engine.strategy.micro_batch, decisions.engine.strategy.micro_batch == 1 ? "row" : "rows",
      describe(decisions.job));
}

// Answers every prompt of --sample; all ranks generate, rank 0 shows.
void show_samples(const TrainOptions& options, const Inputs& inputs, Engine& engine, TrainingReport* report) {
  for (const std::string& prompt : options.watching.samples) {
    std::vector<std::int32_t> ids = inputs.chat_template.encode_prompt(prompt, inputs.tokenizer);
    const std::int64_t room = engine.options().max_positions - kSampleTokens;
    if (static_cast<std::int64_t>(ids.size()) > room) {
      if (report != nullptr)
        spdlog::warn("--sample \"{}\" is longer than --sequence-length leaves room for; it is left out",
                     prompt);
      continue;
    }
    const std::vector<std::int32_t> answer =
        generate(engine, ids, kSampleTokens, inputs.chat_template.stop_ids(inputs.tokenizer));
    if (report != nullptr) report->sample(prompt, inputs.tokenizer.decode(answer, true));
  }
}

// The last evaluation, on the weights as they will be written.
void evaluate_last(const TrainOptions& options, const Inputs& inputs, Engine& engine, TrainingLoop& loop,
                   const Decisions& decisions, bool reports) {
  const std::int64_t last = decisions.batches.num_steps();
  const auto dtypes = saved_dtypes(inputs.directory, options.saving.save_dtype);
  const bool rounds = decisions.engine.precision == Precision::fp32 &&
                      dtypes(inputs.model.embedding->table().name()) == DType::bfloat16;
  if (rounds) {
    const std::optional<double> exact = loop.evaluate(last);
    engine.state_access().round_to_saved(dtypes);
    const std::optional<double> rounded = loop.evaluate(last);
    if (reports && exact && *rounded > *exact * 1.001) {
      spdlog::warn(
          "rounding the weights to bf16 raised the validation loss from {:.4f} to {:.4f}; --save-dtype fp32 "
          "keeps them exact",
          *exact, *rounded);
    }
  } else {
    loop.evaluate(last);
  }
}

// The engine with its weights. Where its states do not fit, the plan is made again.
std::unique_ptr<Engine> make_engine(Inputs& inputs, Decisions& decisions, MemoryRecovery& recovery,
                                    Communicator& communicator) {
  while (true) {
    std::unique_ptr<Engine> engine;
    std::optional<OutOfMemory> failure;
    run_agreed(communicator, [&] {
      try {
        engine = std::make_unique<Engine>(inputs.model, decisions.engine, communicator);
      } catch (const OutOfMemory& error) {
        failure = error;
      }
    });
    if (!recovery.recover_construction(failure ? &*failure : nullptr)) {
      run_agreed(communicator, [&] { load_weights(inputs.directory, *engine); });
      return engine;
    }
    engine.reset();
    decisions.engine.strategy = decisions.job.strategy();
    decisions.batches = decisions.batches.with_micro_batch(decisions.engine.strategy.micro_batch);
  }
}

void train(const TrainOptions& options, Inputs& inputs, const Dataset& dataset, Decisions& decisions,
           JobDevice& device, const LocalRank& local, OutputDirectory* output) {
  Communicator& communicator = device.communicator();
  const nlohmann::ordered_json ranks = describe_ranks(communicator, local.rank, device);
  std::unique_ptr<TrainingReport> report;
  run_agreed(communicator, [&] {
    if (output == nullptr) return;
    output->begin();
    report = std::make_unique<TrainingReport>(
        options, decisions.to_json(), ranks, local.mpi_version, *output, decisions.batches.num_steps(),
        MemoryExpectation{decisions.job.plan.predicted, decisions.job.budget.device,
                          decisions.job.predicted_resident()});
  });
  MemoryRecovery recovery(
      options, decisions.job, communicator, [] { return job_memory().statistics().device.limit; },
      [&](const MemoryEvent& event) {
        // What the failed attempt held is neither kept nor compared with the next plan.
        job_memory().trim();
        job_memory().reset_peak();
        if (report) report->out_of_memory(event, decisions.job.plan.predicted);
      });
  auto engine = make_engine(inputs, decisions, recovery, communicator);
  const auto end_phase = [&](JobPhase phase) {
    const std::int64_t peak = take_resident_peak(communicator);
    if (report) report->resident_peak(phase, peak);
  };
  end_phase(JobPhase::loading);
  show_samples(options, inputs, *engine, report.get());
  job_memory().reset_peak();

  FaultInjection faults(communicator.rank());
  LoopObserver observer;
  observer.before_step = [&](std::int64_t step) { faults.before_step(step); };
  observer.on_out_of_memory = [&](std::int64_t step, std::int64_t) { recovery.recover(*engine, step); };
  observer.on_step = [&](const StepReport& step) {
    const RankExtremes largest = largest_of_ranks(communicator, step);
    if (report) report->step(step, largest);
  };
  const std::int64_t last = decisions.batches.num_steps();
  observer.on_evaluation = [&](std::int64_t step, double loss) {
    if (report) report->evaluation(step, loss);
    if (step > 0 && step < last) show_samples(options, inputs, *engine, report.get());
  };
  TrainingLoop loop(*engine, dataset, decisions.batches, communicator, options.training.loop, observer);
  loop.run();

  evaluate_last(options, inputs, *engine, loop, decisions, report != nullptr);
  show_samples(options, inputs, *engine, report.get());
  // What activations held is free for the writer.
  job_memory().trim();
  end_phase(JobPhase::training);
  run_agreed(communicator, [&] {
    write_model(inputs.directory, *engine, output != nullptr ? output->path() : options.output,
                options.saving.save_dtype, output != nullptr);
  });
  end_phase(JobPhase::saving);
  run_agreed(communicator, [&] {
    if (report) report->finish();
  });
}

}  // namespace

void run_training_job(const TrainOptions& options, Communicator& control, const LocalRank& local) {
  check_same(control, "the options", to_json(options).dump());
  set_threads(local);
  JobDevice device({options.strategy.device, options.strategy.memory_limit, at::get_num_threads()}, local,
                   control);
  Communicator& communicator = device.communicator();
  Inputs inputs = run_agreed(communicator, [&] { return read_inputs(options); });
  const bool writes = communicator.rank() == 0;
  std::unique_ptr<OutputDirectory> output;
  run_agreed(communicator, [&] {
    if (!writes) return;
    if (options.watching.dry_run) {
      OutputDirectory::check(options.output, inputs.directory, options.saving.overwrite);
      return;
    }
    output = std::make_unique<OutputDirectory>(options.output, inputs.directory, options.saving.overwrite);
    output->require_space(ModelWriter::bytes_needed(inputs.directory, options.saving.save_dtype));
  });
  const Dataset dataset = load_data(options, inputs, communicator);
  Decisions decisions = decide(options, inputs, dataset, device, local);
  if (writes)
    stderr_console().print(describe(options, inputs, dataset, decisions, device, communicator.size()));
  if (options.watching.dry_run) return;
  // What is planned for is all there is, so that too much is met here and not by the system's out-of-memory
  // killer.
  job_memory().device().set_limit(decisions.job.budget.device);
  const FaultInjection faults(communicator.rank());
  if (faults.arena_limit()) job_memory().device().set_limit(*faults.arena_limit());
  try {
    train(options, inputs, dataset, decisions, device, local, output.get());
  } catch (const OutOfMemory& error) {
    fail(ExitCode::does_not_fit, "{}; lower --micro-batch, or set --recompute full", error.what());
  }
}

}  // namespace autoglm
