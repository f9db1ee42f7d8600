#include "launcher/options/train_options.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/launcher/matches_pattern.h"
#include "tests/launcher/options/train_command_lines.h"

namespace autoglm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

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
