#include "launcher/options/train_options.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launcher/options/data_options_binding.h"

namespace autoglm {
namespace {

constexpr std::int64_t kMostSteps = 1'000'000'000;

// A share of all steps below 1, a whole number of steps from 1 on.
Option warmup_option(double& warmup) {
  Option option{"warmup", "FRACTION|STEPS", "rising part of the schedule: a share, or steps",
                format_real(warmup)};
  option.assign = [&warmup](std::string_view text, std::string_view spelled) {
    double value = -1;
    const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = status == std::errc() && rest == text.data() + text.size();
    const bool in_range = value >= 0 && value <= static_cast<double>(kMostSteps);
    if (!whole || !in_range || (value >= 1 && value != std::floor(value)))
      refuse_value(spelled, "a fraction below 1 or a whole number of steps", text);
    warmup = value;
  };
  option.store = [&warmup](nlohmann::ordered_json& object) {
    if (warmup >= 1)
      object["warmup"] = static_cast<std::int64_t>(warmup);
    else
      object["warmup"] = warmup;
  };
  return option;
}

Option precision_option(Precision& precision) {
  Option option{"precision", "bf16|fp32", "arithmetic; optimizer state stays fp32", "bf16"};
  option.assign = [&precision](std::string_view text, std::string_view spelled) {
    if (text == "fp16" || text == "float16")
      fail(ExitCode::usage,
           "{} {} is not offered: fp16 gradients overflow or vanish outside 6e-8 to 65504, while bf16 has "
           "the range of fp32 in the same 2 bytes; use bf16",
           spelled, text);
    if (text != "bf16" && text != "fp32") refuse_value(spelled, "bf16 or fp32", text);
    precision = text == "bf16" ? Precision::bf16 : Precision::fp32;
  };
  option.store = [&precision](nlohmann::ordered_json& object) {
    object["precision"] = precision_name(precision);
  };
  return option;
}

void bind_loop(OptionTable& table, LoopOptions& loop) {
  table.add_integer("epochs", loop.epochs, {1, 1'000'000}, "passes over the data",
                    std::to_string(*LoopOptions().epochs));
  table.add_integer("steps", loop.steps, {1, kMostSteps}, "optimizer steps, instead of --epochs", "");
  table.add_integer("global-batch", loop.global_batch, {1, kMostRows}, "rows of a step over all ranks");
  table.add_real("learning-rate", "RATE", loop.schedule.peak, {0, 1, true}, "highest learning rate");
  table.add_choice<ScheduleKind>("schedule", loop.schedule.kind,
                                 {{"cosine", ScheduleKind::cosine},
                                  {"linear", ScheduleKind::linear},
                                  {"constant", ScheduleKind::constant},
                                  {"wsd", ScheduleKind::wsd}},
                                 "learning rate after the warm-up");
  table.add(warmup_option(loop.schedule.warmup));
  AdamWSettings& adamw = loop.adamw;
  table.add_real("weight-decay", "X", adamw.weight_decay, {0, 10}, "decoupled; not on biases and norms");
  table.add_real("adam-beta1", "X", adamw.beta1, {0, 1, false, true}, "decay of the first moment");
  table.add_real("adam-beta2", "X", adamw.beta2, {0, 1, false, true}, "decay of the second moment");
  table.add_real("adam-eps", "X", adamw.epsilon, {0, 1, true}, "added to the root of the second moment");
  table.add_real("clip", "NORM", loop.clip, {0, 1e9}, "largest global gradient norm; 0 turns clipping off");
}

void bind_training(OptionTable& table, TrainingOptions& training) {
  table.begin_group("Training");
  bind_loop(table, training.loop);
  table.add(precision_option(training.precision));
  table.add_texts("freeze", "PATTERN", training.freeze,
                  "train all but these, as model.layers.0.*; may be repeated");
  bind_seed(table, training.seed);
}

void bind_watching(OptionTable& table, WatchingOptions& watching, LoopOptions& loop) {
  table.begin_group("Watching");
  table.add_integer("evaluate-every", loop.evaluate_every, {0, kMostSteps},
                    "steps between evaluations; 0: only at epoch ends");
  table.add_texts("sample", "PROMPT", watching.samples,
                  "answer it before, at evaluations and after; may be repeated");
  table.add_integer("log-every", watching.log_every, {1, kMostSteps},
                    "steps between progress lines, off a terminal");
  table.add_flag("dry-run", watching.dry_run, "say what would run, then stop; writes nothing");
}

bool given(const OptionTable& table, const char* name) {
  return table.source(name) != OptionSource::default_value;
}

void settle_length(const OptionTable& table, LoopOptions& loop) {
  if (given(table, "steps") && given(table, "epochs") && table.source("steps") == table.source("epochs"))
    fail(ExitCode::usage, "{} and {} contradict each other: give the length of the training once",
         table.spelled("steps"), table.spelled("epochs"));
  if (given(table, "steps") && !table.outranks("epochs", "steps"))
    loop.epochs.reset();
  else
    loop.steps.reset();
}

bool validates(const TrainOptions& options) {
  return options.data.validation.file || options.data.validation.fraction > 0;
}

void check_watching(const OptionTable& table, const TrainOptions& options) {
  if (options.training.loop.evaluate_every > 0 && !validates(options) && options.watching.samples.empty())
    fail(ExitCode::usage, "{} {} has nothing to evaluate; give --validation or --sample",
         table.spelled("evaluate-every"), options.training.loop.evaluate_every);
}

// Folders inside each other are refused later, when the model's own folder is known.
void check_folders(const OptionTable& table, const TrainOptions& options) {
  std::error_code ignored;
  const auto resolved = [&](const std::filesystem::path& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, ignored) / ".", ignored);
  };
  if (resolved(options.model) == resolved(options.output))
    fail(ExitCode::usage, "{} {} is the folder of --model; the trained model needs a folder of its own",
         table.spelled("output"), options.output.string());
}

void bind(OptionTable& table, TrainOptions& options) {
  table.begin_group("Required");
  table.add_path("model", "DIR", options.model, "model to start from, a Hugging Face directory");
  bind_data_files(table, options.data);
  table.add_path("output", "DIR", options.output, "folder for the trained model, run.json and metrics.jsonl");
  table.require({"model", "data", "output"});
  table.begin_group("Data");
  bind_data_options(table, options.data);
  bind_training(table, options.training);
  bind_strategy_options(table, options.strategy);
  bind_saving_options(table, options.saving);
  bind_watching(table, options.watching, options.training.loop);
}

}  // namespace

TrainCommandLine::TrainCommandLine()
    : table_(
          "autoglm-train", "mpirun -np RANKS autoglm-train --model DIR --data FILE... --output DIR [options]",
          "Fully fine-tunes a language model on chats, on all ranks it is started with. [x]: the default.") {
  bind(table_, options_);
}

OptionRequest TrainCommandLine::parse(const std::vector<std::string>& arguments) {
  const OptionRequest request = table_.parse(arguments);
  if (request != OptionRequest::run) return request;
  settle_length(table_, options_.training.loop);
  settle_pins(table_, options_.strategy.pins, options_.training.precision);
  check_micro_batch(table_, options_.strategy.pins, options_.training.loop.global_batch);
  check_watching(table_, options_);
  check_saving_options(table_, options_.saving, validates(options_));
  check_folders(table_, options_);
  options_.data.seed = options_.training.seed;
  return request;
}

nlohmann::ordered_json to_json(const TrainOptions& options) {
  TrainOptions copy = options;
  OptionTable table("autoglm-train", "", "");
  bind(table, copy);
  return table.to_json();
}

}  // namespace autoglm
