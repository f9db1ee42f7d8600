#include "launcher/options/train_options.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/launcher/expect_error.h"
#include "tests/launcher/matches_pattern.h"

namespace autoglm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kRequired = {"--model", "m", "--data", "d.jsonl", "--output", "o"};

std::vector<std::string> with_required(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = kRequired;
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TrainOptions parsed(const std::vector<std::string>& more) {
  TrainCommandLine command_line;
  EXPECT_EQ(command_line.parse(with_required(more)), OptionRequest::run);
  return command_line.options();
}

std::string refusal(const std::vector<std::string>& more) {
  return error_of(ExitCode::usage, [&] {
    TrainCommandLine command_line;
    command_line.parse(with_required(more));
  });
}

class TrainOptionsFile : public testing::Test {
 protected:
  TrainOptionsFile()
      : path_(std::filesystem::temp_directory_path() /
              ("autoglm_train_" + std::to_string(getpid()) + ".ini")) {}
  ~TrainOptionsFile() override { std::filesystem::remove(path_); }
  std::vector<std::string> with_file(const std::string& text, std::vector<std::string> more = {}) {
    std::ofstream(path_) << text;
    more.insert(more.end(), {"--config", path_.string()});
    return more;
  }
  std::filesystem::path path_;
};

TEST(TrainOptions, DefaultsAreThoseOfTheDesign) {
  const nlohmann::ordered_json expected = nlohmann::ordered_json::parse(R"({
    "model": "m", "data": ["d.jsonl"], "output": "o",
    "template": "auto", "sequence-length": 2048, "validation": 0.0, "loss-on": "assistant", "eot": "user",
    "packing": "on", "overlong": "split",
    "epochs": 3, "steps": null, "global-batch": 16, "learning-rate": 1e-5, "schedule": "cosine", "warmup": 0.03,
    "weight-decay": 0.0, "adam-beta1": 0.9, "adam-beta2": 0.95, "adam-eps": 1e-8, "clip": 1.0, "precision": "bf16",
    "freeze": [], "seed": 42,
    "device": "auto", "strategy": "auto", "micro-batch": null, "recompute": "auto", "recompute-layers": null,
    "offload-optimizer": null, "offload-activations": null, "weights": "auto", "master": "auto", "head-chunks": null,
    "memory-limit": null, "on-oom": "shrink", "gradient-dtype": "fp32", "moment-dtype": "fp32", "reduce": "micro-batch",
    "reduce-scatter": "ordered", "reduce-dtype": "fp32", "products": "auto",
    "overwrite": false, "save-dtype": "input", "save-every": "auto", "keep": 2, "keep-best": false, "export": "last",
    "checkpoint-dir": null, "resume": "auto", "allow-change": [], "stop-after": null,
    "evaluate-every": 0, "sample": [], "log-every": 10, "dry-run": false})");
  EXPECT_EQ(to_json(parsed({})).dump(2), expected.dump(2));
}

TEST(TrainOptions, EveryOptionReachesItsField) {
  const TrainOptions options = parsed({"--data",
                                       "e.jsonl",
                                       "f.jsonl",
                                       "--template",
                                       "glm4",
                                       "--sequence-length",
                                       "512",
                                       "--validation",
                                       "v.jsonl",
                                       "--loss-on",
                                       "all",
                                       "--eot",
                                       "eos",
                                       "--packing",
                                       "off",
                                       "--overlong",
                                       "drop",
                                       "--steps",
                                       "7",
                                       "--global-batch",
                                       "8",
                                       "--learning-rate",
                                       "3e-4",
                                       "--schedule",
                                       "wsd",
                                       "--warmup",
                                       "5",
                                       "--weight-decay",
                                       "0.1",
                                       "--adam-beta1",
                                       "0.8",
                                       "--adam-beta2",
                                       "0.99",
                                       "--adam-eps",
                                       "1e-6",
                                       "--clip",
                                       "0",
                                       "--precision",
                                       "fp32",
                                       "--seed",
                                       "9",
                                       "--device",
                                       "cpu",
                                       "--micro-batch",
                                       "2",
                                       "--recompute",
                                       "cheap",
                                       "--recompute-layers",
                                       "3",
                                       "--head-chunks",
                                       "4",
                                       "--memory-limit",
                                       "1GiB",
                                       "--overwrite",
                                       "--save-dtype",
                                       "fp32",
                                       "--evaluate-every",
                                       "5",
                                       "--sample",
                                       "Who are you?",
                                       "--sample",
                                       "And now?",
                                       "--log-every",
                                       "2",
                                       "--dry-run"});
  EXPECT_THAT(options.data.files, ElementsAre("d.jsonl", "e.jsonl", "f.jsonl"));
  EXPECT_EQ(options.data.template_name, "glm4");
  EXPECT_EQ(options.data.sequence_length, 512);
  EXPECT_EQ(options.data.validation.file, "v.jsonl");
  EXPECT_EQ(options.data.loss_on, LossOn::all);
  EXPECT_EQ(options.data.end_of_turn, EndOfTurn::eos);
  EXPECT_FALSE(options.data.packing);
  EXPECT_EQ(options.data.overlong, Overlong::drop);
  EXPECT_EQ(options.data.seed, 9u);
  EXPECT_EQ(options.training.loop.epochs, std::nullopt);
  EXPECT_EQ(options.training.loop.steps, 7);
  EXPECT_EQ(options.training.loop.schedule.kind, ScheduleKind::wsd);
  EXPECT_EQ(options.training.loop.schedule.warmup, 5);
  EXPECT_EQ(options.training.loop.clip, 0);
  EXPECT_EQ(options.training.precision, Precision::fp32);
  EXPECT_EQ(options.strategy.device, DeviceRequest::cpu);
  EXPECT_EQ(options.strategy.pins.recompute, Recompute::cheap);
  EXPECT_EQ(options.strategy.pins.recompute_layers, 3);
  EXPECT_EQ(options.strategy.pins.head_chunks, 4);
  EXPECT_EQ(options.strategy.memory_limit, std::int64_t{1} << 30);
  EXPECT_TRUE(options.saving.overwrite);
  EXPECT_EQ(options.saving.save_dtype, DType::float32);
  EXPECT_THAT(options.watching.samples, ElementsAre("Who are you?", "And now?"));
  EXPECT_TRUE(options.watching.dry_run);
}

TEST(TrainOptions, WhatIsNotSetIsThePlannersToChoose) {
  EXPECT_FALSE(parsed({}).strategy.pins.stage || parsed({}).strategy.pins.micro_batch);
  EXPECT_EQ(parsed({"--strategy", "auto"}).strategy.pins.stage, std::nullopt);
  EXPECT_EQ(parsed({"--strategy", "ddp"}).strategy.pins.stage, 0);
  EXPECT_EQ(parsed({"--offload-optimizer", "0"}).strategy.pins.offload_optimizer, 0.0);
  EXPECT_EQ(parsed({"--offload-optimizer", "auto"}).strategy.pins.offload_optimizer, std::nullopt);
  EXPECT_THAT(refusal({"--offload-optimizer", "1.5"}), HasSubstr("--offload-optimizer"));
  EXPECT_FALSE(parsed({"--strategy", "ddp", "--micro-batch", "1"}).strategy.pins.complete());
}

TEST(TrainOptions, TheStrategyFollowsFromItsParts) {
  const auto strategy = [](const std::vector<std::string>& more) {
    const TrainOptions options = parsed(more);
    return pinned_strategy(options.strategy.pins, options.training.precision);
  };
  EXPECT_EQ(strategy({}).stage, 0);
  EXPECT_EQ(strategy({}).weights, WeightSourceKind::resident);
  EXPECT_EQ(strategy({}).master, MasterLayout::split);
  EXPECT_EQ(strategy({"--precision", "fp32"}).master, MasterLayout::plain);
  EXPECT_EQ(strategy({"--strategy", "zero3"}).weights, WeightSourceKind::peers);
  EXPECT_EQ(parsed({"--products", "widened"}).strategy.products, Products::widened);
  const Strategy all =
      strategy({"--strategy", "zero1", "--weights", "host", "--master", "plain", "--offload-optimizer",
                "0.25", "--offload-activations", "0.5", "--recompute", "full", "--moment-dtype", "bf16",
                "--reduce", "step", "--reduce-scatter", "nccl"});
  EXPECT_EQ(describe_strategy(all),
            "zero1, recompute full, weights on the host, 25 % of the optimizer on the host, 50 % of the "
            "saved inputs on "
            "the host, bf16 moments, reduced once a step, gradients added by NCCL");
}

TEST(TrainOptions, GradientsAreSentInBf16WhereThatIsAskedFor) {
  EXPECT_FALSE(parsed({}).strategy.pins.bf16_reduce);
  const TrainOptions options = parsed({"--reduce-dtype", "bf16", "--reduce", "step", "--strategy", "zero1"});
  EXPECT_EQ(describe_strategy(pinned_strategy(options.strategy.pins, Precision::bf16)),
            "zero1, split master, reduced once a step, gradients rounded to bf16 for sums");
}

TEST_F(TrainOptionsFile, AStageOnTheCommandLineOutranksWhatTheFileSaysOfParts) {
  const TrainOptions options =
      parsed(with_file("weights = peers\nstrategy = zero3\n", {"--strategy", "zero2"}));
  EXPECT_EQ(options.strategy.pins.weights, std::nullopt);
  EXPECT_EQ(parsed(with_file("master = split\n", {"--precision", "fp32"})).strategy.pins.master,
            std::nullopt);
}

// run.json says everything, in a spelling that the command line and the settings file take back.
TEST_F(TrainOptionsFile, JsonReadsBackAsSettings) {
  const TrainOptions options =
      parsed({"--steps", "7", "--warmup", "5", "--recompute", "full", "--recompute-layers", "3",
              "--save-dtype", "bf16", "--validation", "0.25", "--overwrite", "--sample", "Who?",
              "--head-chunks", "4", "--adam-eps", "1e-6"});
  const nlohmann::ordered_json json = to_json(options);
  std::string settings;
  for (const auto& [name, value] : json.items()) {
    const nlohmann::ordered_json values = value.is_array() ? value : nlohmann::ordered_json{value};
    for (const auto& one : values)
      if (!one.is_null())
        settings += name + " = " + (one.is_string() ? one.get<std::string>() : one.dump()) + "\n";
  }
  TrainCommandLine command_line;
  ASSERT_EQ(command_line.parse(with_file(settings)), OptionRequest::run);
  EXPECT_EQ(to_json(command_line.options()).dump(2), json.dump(2));
}

TEST(TrainOptions, LengthIsGivenOnce) {
  EXPECT_EQ(parsed({}).training.loop.epochs, 3);
  EXPECT_EQ(parsed({"--epochs", "2"}).training.loop.epochs, 2);
  EXPECT_EQ(parsed({"--steps", "5"}).training.loop.epochs, std::nullopt);
  EXPECT_EQ(refusal({"--steps", "5", "--epochs", "2"}),
            "--steps and --epochs contradict each other: give the length of the training once");
}

TEST_F(TrainOptionsFile, CommandLinesLengthReplacesTheFiles) {
  const TrainOptions steps = parsed(with_file("epochs = 2\n", {"--steps", "5"}));
  EXPECT_EQ(steps.training.loop.steps, 5);
  EXPECT_EQ(steps.training.loop.epochs, std::nullopt);
  const TrainOptions epochs = parsed(with_file("steps = 5\n", {"--epochs", "2"}));
  EXPECT_EQ(epochs.training.loop.steps, std::nullopt);
  EXPECT_EQ(epochs.training.loop.epochs, 2);
  EXPECT_THAT(refusal(with_file("steps = 5\nepochs = 2\n")), HasSubstr("contradict each other"));
}

TEST_F(TrainOptionsFile, RecomputeLayersNeedRecompute) {
  EXPECT_EQ(parsed({"--recompute-layers", "3"}).strategy.pins.recompute, std::nullopt);
  EXPECT_THAT(refusal({"--strategy", "zero3", "--weights", "resident"}), HasSubstr("use peers or host"));
  EXPECT_THAT(refusal({"--strategy", "zero2", "--weights", "peers"}), HasSubstr("use --strategy zero3"));
  EXPECT_THAT(refusal({"--precision", "fp32", "--master", "split"}), HasSubstr("needs --precision bf16"));
  EXPECT_THAT(refusal({"--strategy", "zero2", "--reduce", "step"}), HasSubstr("use ddp or zero1"));
  EXPECT_THAT(refusal({"--gradient-dtype", "bf16", "--reduce", "step"}), HasSubstr("would save nothing"));
  EXPECT_THAT(refusal({"--reduce-dtype", "bf16", "--reduce-scatter", "nccl"}),
              HasSubstr("needs --reduce-scatter ordered"));
  EXPECT_THAT(refusal({"--offload-activations", "0.5", "--recompute", "cheap"}),
              HasSubstr("needs --recompute full"));
  EXPECT_EQ(refusal({"--recompute-layers", "3", "--recompute", "none"}),
            "--recompute-layers 3 needs --recompute cheap or full; recompute is none");
  const TrainOptions options =
      parsed(with_file("recompute = full\nrecompute-layers = 3\n", {"--recompute", "none"}));
  EXPECT_EQ(options.strategy.pins.recompute_layers, std::nullopt);
}

TEST(TrainOptions, MicroBatchFitsIntoTheGlobalBatch) {
  EXPECT_EQ(refusal({"--micro-batch", "32"}),
            "--micro-batch 32 is larger than --global-batch 16, so every pass would compute empty rows");
  EXPECT_EQ(parsed({"--micro-batch", "16"}).strategy.pins.micro_batch, 16);
}

TEST(TrainOptions, EvaluationsNeedSomethingToEvaluate) {
  EXPECT_EQ(refusal({"--evaluate-every", "5"}),
            "--evaluate-every 5 has nothing to evaluate; give --validation or --sample");
  EXPECT_EQ(parsed({"--evaluate-every", "5", "--validation", "0.1"}).training.loop.evaluate_every, 5);
  EXPECT_EQ(parsed({"--evaluate-every", "5", "--sample", "Who?"}).training.loop.evaluate_every, 5);
}

TEST(TrainOptions, OutputIsNotTheModel) {
  for (const char* output : {"m", "m/", "./m", "m/../m", "m/."}) {
    const std::string sentence = error_of(ExitCode::usage, [&] {
      TrainCommandLine command_line;
      command_line.parse({"--model", "m", "--data", "d", "--output", output});
    });
    EXPECT_EQ(sentence, std::string("--output ") + output +
                            " is the folder of --model; the trained model needs a folder of its own");
  }
}

TEST(TrainOptions, HalfPrecisionIsRefusedWithItsReason) {
  EXPECT_EQ(refusal({"--precision", "fp16"}),
            "--precision fp16 is not offered: fp16 gradients overflow or vanish outside 6e-8 to 65504, while "
            "bf16 has the range of fp32 in the same 2 bytes; use bf16");
  EXPECT_EQ(refusal({"--precision", "int8"}), "--precision takes bf16 or fp32; got \"int8\"");
}

TEST(TrainOptions, WarmupIsAShareOrANumberOfSteps) {
  EXPECT_DOUBLE_EQ(parsed({"--warmup", "0.5"}).training.loop.schedule.warmup, 0.5);
  EXPECT_DOUBLE_EQ(parsed({"--warmup", "100"}).training.loop.schedule.warmup, 100);
  EXPECT_EQ(refusal({"--warmup", "1.5"}),
            "--warmup takes a fraction below 1 or a whole number of steps; got \"1.5\"");
  EXPECT_EQ(refusal({"--warmup", "-1"}),
            "--warmup takes a fraction below 1 or a whole number of steps; got \"-1\"");
}

TEST(TrainOptions, ValidationIsAShareOrAFile) {
  EXPECT_DOUBLE_EQ(parsed({"--validation", "0.25"}).data.validation.fraction, 0.25);
  EXPECT_EQ(parsed({"--validation", "2024/v.jsonl"}).data.validation.file, "2024/v.jsonl");
  EXPECT_EQ(parsed({"--validation", "./0.5"}).data.validation.file, "./0.5");
  for (const char* text : {"1", "-0.1", "nan", "inf", "1e400", "0.1.2", ""})
    EXPECT_EQ(
        refusal({"--validation", text}),
        "--validation takes a fraction from 0 to below 1, or a file; got \"" + std::string(text) + "\"");
}

struct WrongValue {
  const char* option;
  const char* value;
  const char* accepted;
};

TEST(TrainOptions, EveryWrongValueHasItsSentence) {
  const WrongValue cases[] = {
      {"--sequence-length", "1", "a whole number from 2 to 1048576"},
      {"--sequence-length", "2k", "a whole number from 2 to 1048576"},
      {"--loss-on", "user", "assistant or all"},
      {"--eot", "none", "user or eos"},
      {"--packing", "maybe", "on or off"},
      {"--overlong", "cut", "split, truncate, drop or error"},
      {"--epochs", "0", "a whole number from 1 to 1000000"},
      {"--epochs", "1.5", "a whole number from 1 to 1000000"},
      {"--steps", "-1", "a whole number from 1 to 1000000000"},
      {"--steps", "18446744073709551617", "a whole number from 1 to 1000000000"},
      {"--global-batch", "0", "a whole number from 1 to 1048576"},
      {"--learning-rate", "0", "a number above 0 and at most 1"},
      {"--learning-rate", "-1e-5", "a number above 0 and at most 1"},
      {"--learning-rate", "3", "a number above 0 and at most 1"},
      {"--learning-rate", "inf", "a number above 0 and at most 1"},
      {"--schedule", "step", "cosine, linear, constant or wsd"},
      {"--weight-decay", "-0.1", "a number from 0 to 10"},
      {"--adam-beta1", "1", "a number from 0 to below 1"},
      {"--adam-beta2", "nan", "a number from 0 to below 1"},
      {"--adam-eps", "0", "a number above 0 and at most 1"},
      {"--clip", "-1", "a number from 0 to 1000000000"},
      {"--seed", "-1", "a whole number of at least 0"},
      {"--seed", "9223372036854775808", "a whole number of at least 0"},
      {"--device", "gpu", "auto, cuda or cpu"},
      {"--micro-batch", "0", "a whole number from 1 to 1048576"},
      {"--recompute", "half", "auto, none, cheap or full"},
      {"--recompute-layers", "0", "a whole number from 1 to 100000"},
      {"--head-chunks", "0", "a whole number from 1 to 1048576"},
      {"--memory-limit", "0", "a size above 0, such as 40GB or 40GiB"},
      {"--save-dtype", "int8", "input, fp32, bf16 or fp16"},
      {"--evaluate-every", "-1", "a whole number from 0 to 1000000000"},
      {"--log-every", "0", "a whole number from 1 to 1000000000"},
      {"--overwrite", "please", "on or off"},
      {"--dry-run", "2", "on or off"},
  };
  for (const WrongValue& wrong : cases)
    EXPECT_EQ(refusal({wrong.option, wrong.value}),
              fmt::format("{} takes {}; got \"{}\"", wrong.option, wrong.accepted, wrong.value));
}

TEST(TrainOptions, OptionsThatDoNotExistYetAreUnknown) {
  EXPECT_THAT(refusal({"--adapter", "lora"}), HasSubstr("unknown option --adapter"));
  EXPECT_THAT(refusal({"--metrics-port", "9090"}), HasSubstr("unknown option --metrics-port"));
  EXPECT_EQ(refusal({"--lerning-rate", "1"}), "unknown option --lerning-rate; did you mean --learning-rate?");
}

TEST(TrainOptions, HelpListsEveryOptionOnOneLineOf100Columns) {
  const std::string help = TrainCommandLine().help();
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  const nlohmann::ordered_json options = to_json(TrainOptions{});
  for (const auto& [name, value] : options.items())
    EXPECT_THAT(help, ContainsPattern("\n  --" + name + "( [^ ]+)?  +[^ ]")) << name;
  for (const char* group : {"Required", "Data", "Training", "Strategy", "Saving", "Watching", "General"})
    EXPECT_THAT(help, HasSubstr(std::string("\n\n") + group + "\n  -"));
  EXPECT_THAT(help, HasSubstr("--config FILE"));
  EXPECT_THAT(help, HasSubstr("--version"));
  // The names of the chat templates need a second line; nothing else does.
  const std::string second_line = "\n" + std::string(20, ' ');
  const std::size_t first = help.find(second_line);
  EXPECT_EQ(help.rfind("\n  --", first), help.find("\n  --template"));
  EXPECT_EQ(help.find(second_line, first + 1), std::string::npos);
}

TEST(TrainOptions, TheSettingsForChatLeaveTheStrategyToThePlanner) {
  TrainCommandLine command_line;
  command_line.parse(
      with_required({"--config", (std::filesystem::path(AUTOGLM_CONFIGS_FOLDER) / "chat.ini").string()}));
  const nlohmann::ordered_json chosen = to_json(command_line.options()), free = to_json(TrainOptions{});
  for (const char* name : {"device", "strategy", "micro-batch", "recompute", "recompute-layers",
                           "offload-optimizer", "offload-activations", "weights", "master", "head-chunks"})
    EXPECT_EQ(chosen.at(name), free.at(name)) << name;
}

TEST(TrainOptions, EveryReadyMadeSettingsFileParses) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(AUTOGLM_CONFIGS_FOLDER)) {
    if (entry.path().extension() != ".ini") continue;
    ++count;
    TrainCommandLine command_line;
    EXPECT_NO_THROW(command_line.parse(with_required({"--config", entry.path().string()}))) << entry.path();
  }
  EXPECT_GE(count, 2);
}

}  // namespace
}  // namespace autoglm
