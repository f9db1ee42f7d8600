// What autoglm-train's command line refuses, and in which words.
#include "tests/launcher/options/train_command_lines.h"

namespace autoglm {
namespace {

using testing::HasSubstr;

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

}  // namespace
}  // namespace autoglm
