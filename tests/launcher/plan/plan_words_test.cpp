// What autoglm-plan says of cards, links, screens, and what to change: each word holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/launcher/plan/ask.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

double speed(const std::vector<std::string>& arguments) {
  return plan(arguments)["chosen"]["estimated_tokens_per_second"];
}

TEST(PlanCommand, LinksAreThoseOfTheCardUnlessNamed) {
  const auto four = [](const char* gpu, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{"--model",
                                       "Llama-3-8B",
                                       "--gpu",
                                       gpu,
                                       "--ranks",
                                       "4",
                                       "--strategy",
                                       "zero3",
                                       "--weights",
                                       "peers",
                                       "--micro-batch",
                                       "1",
                                       "--recompute",
                                       "full",
                                       "--offload-optimizer",
                                       "0",
                                       "--offload-activations",
                                       "0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return speed(arguments);
  };
  const double sxm = four("a100-80gb"), pcie = four("NVIDIA A100 80GB PCIe");
  EXPECT_LT(pcie, 0.6 * sxm);
  EXPECT_LT(four("h800"), four("h100"));
  EXPECT_LT(four("h100-pcie"), 0.7 * four("h800"));
  EXPECT_GT(four("a100-80gb-pcie", {"--device-link", "nvlink3"}), 1.5 * pcie);
  EXPECT_LT(four("a100-80gb", {"--device-link", "pcie4"}), 0.6 * sxm);
  // A card that may not use all of a link does not get it by naming it.
  const std::vector<std::string> geforce{"--model", "TinyLlama-1.1B", "--gpu", "rtx4090", "--ranks", "4"};
  std::vector<std::string> named = geforce;
  named.insert(named.end(), {"--device-link", "pcie4"});
  EXPECT_EQ(speed(named), speed(geforce));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--device-link", "10gbe"}), HasSubstr("connects nodes"));
}

TEST(PlanCommand, NodesHaveAsManyAdaptersAsUsualOrAsAreNamed) {
  const auto on = [](std::vector<std::string> more) {
    std::vector<std::string> arguments{"--model",        "LLaMA-13B", "--gpu",       "h100-80gb",
                                       "--ranks",        "32",        "--strategy",  "zero3",
                                       "--micro-batch",  "2",         "--recompute", "none",
                                       "--global-batch", "64"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return speed(arguments);
  };
  const double usual = on({}), one = on({"--node-links", "1"}), four = on({"--node-links", "4"});
  EXPECT_LT(one, 0.6 * usual);
  EXPECT_LT(one, four);
  EXPECT_LT(four, usual);
  EXPECT_LT(on({"--node-link", "100gbe"}), one);
  EXPECT_GT(on({"--node-link", "100gbe", "--node-links", "8"}), one);
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--node-links", "0"}), HasSubstr("--node-links takes"));
  EXPECT_THAT(ask({"--model", "LLaMA-7B", "--ranks", "16"}).text,
              HasSubstr("8 x infiniband-hdr between nodes"));
}

TEST(PlanCommand, AStepOfOneRowIsOneRow) {
  EXPECT_THAT(ask({"--model", "SmolLM2-135M", "--global-batch", "1"}).text,
              HasSubstr("steps of 1 row of 2048 tokens"));
}

TEST(PlanCommand, ALinkThatBindsIsNamedWithWhatWouldHelp) {
  const std::vector<std::string> box{"--model", "TinyLlama-1.1B", "--ranks", "8",    "--micro-batch",
                                     "1",       "--global-batch", "64",      "--gpu"};
  const auto on = [&](const char* gpu) {
    std::vector<std::string> arguments = box;
    arguments.emplace_back(gpu);
    return ask(arguments).text;
  };
  const std::string text = on("a100-40gb-pcie");
  EXPECT_THAT(text, ContainsPattern("pcie4 between devices costs [2-9][0-9] % of the step"));
  EXPECT_THAT(text, HasSubstr("--device-link"));
  EXPECT_THAT(text, ContainsPattern("nearest changes:[^$]*--reduce step: \\+[1-9]"));
  EXPECT_THAT(text, ContainsPattern("nearest changes:[^$]*--reduce-dtype bf16: \\+[1-9]"));
  EXPECT_THAT(on("a100-40gb"), ::testing::Not(HasSubstr(" % of the step:")));
  EXPECT_THAT(ask({"--model", "Llama-3-8B", "--ranks", "16", "--node-link", "25gbe"}).text,
              ContainsPattern("25gbe between nodes costs [5-9][0-9] % of the step"));
}

TEST(PlanCommand, CardsWithoutBf16AreSaidToBe) {
  for (const char* gpu : {"v100", "Tesla V100-PCIE-32GB", "t4", "Tesla T4"}) {
    EXPECT_THAT(refusal({"--model", "SmolLM2-135M", "--gpu", gpu}), HasSubstr("no bf16")) << gpu;
    EXPECT_TRUE(plan({"--model", "SmolLM2-135M", "--gpu", gpu, "--precision", "fp32"})["fits"]) << gpu;
    EXPECT_EQ(plan({"--model", "SmolLM2-135M", "--gpu", gpu, "--inference"})["formats"].size(), 5u);
  }
}

TEST(PlanCommand, RowsOfSizesHaveTheSpeedOfTheSlowestCardOfThatSize) {
  const nlohmann::json tiers = plan({"--model", "SmolLM2-1.7B", "--memory", "8,12,16,24,32,48,500"})["tiers"];
  const char* cards[] = {"generic-8gb", "generic-16gb", "generic-16gb", "generic-24gb",
                         "rtx5090",     "generic-48gb", "h200"};
  for (std::size_t i = 0; i < std::size(cards); ++i)
    EXPECT_TRUE(i == 6 || tiers[i]["card"] == cards[i]) << tiers[i]["gigabytes"] << tiers[i]["card"];
  EXPECT_NEAR(tiers[0]["with_host"]["estimated_tokens_per_second"].get<double>(),
              speed({"--model", "SmolLM2-1.7B", "--gpu", "generic-8gb"}), 1);
  const nlohmann::json named =
      plan({"--model", "SmolLM2-1.7B", "--gpu", "h100-80gb", "--memory", "24,80"})["tiers"];
  for (const nlohmann::json& tier : named) EXPECT_EQ(tier["card"], "h100-80gb");
}

TEST(PlanCommand, LargerStepsAreProposedWhereTheNetworkBinds) {
  for (const std::vector<std::string>& cluster : std::vector<std::vector<std::string>>{
           {"--model", "Llama-3-8B", "--ranks", "16", "--node-link", "25gbe"},
           {"--model", "LLaMA-13B", "--ranks", "32", "--node-links", "1", "--global-batch", "32"},
           {"--model", "Llama-3-8B", "--gpu", "l40s", "--ranks", "8", "--global-batch", "8"}}) {
    const std::string text = ask(cluster).text;
    EXPECT_THAT(text, ContainsPattern("nearest changes:[^$]*--global-batch [0-9]+: \\+[1-9]")) << cluster[1];
    EXPECT_THAT(text, ContainsPattern("waiting for links [0-9.]+ s \\([0-9]+ %\\)"));
  }
  EXPECT_THAT(ask({"--model", "LLaMA-7B", "--ranks", "8", "--global-batch", "64"}).text,
              ::testing::Not(HasSubstr("--global-batch")));
}

TEST(PlanCommand, NothingIsProposedThatGainsNothing) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--model", "SmolLM2-135M"},
           {"--model", "LLaMA-7B", "--gpu", "h200", "--ranks", "8"},
           {"--model", "GLM-4-9B-0414", "--ranks", "2"},
           {"--model", "LLaMA-7B", "--gpu", "rtx4090", "--global-batch", "64"}}) {
    const std::string text = ask(arguments).text;
    EXPECT_THAT(text, ::testing::Not(HasSubstr("+0 %")));
    EXPECT_THAT(text, ::testing::Not(ContainsPattern(": -[0-9]+ % tokens")));
  }
}

TEST(PlanCommand, LinesFitTheScreen) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--model", "GLM-4-9B-0414", "--ranks", "4", "--host-memory", "128GB", "--sequence-length",
            "4096"},
           {"--model", "Llama-3-70B", "--ranks", "8", "--host-memory", "128GiB"},
           {"--model", "LLaMA-7B", "--memory", "8,24,80"},
           {"--model", "LLaMA-7B", "--inference"},
           {"--list"}}) {
    PlanCommandLine command_line;
    ASSERT_EQ(command_line.parse(arguments), OptionRequest::run);
    for (const int columns : {60, 80, 132}) {
      int code = 0;
      std::istringstream lines(answer_plan(command_line.options(), {columns, false}, code));
      for (std::string line; std::getline(lines, line);)
        EXPECT_LE(line.size(), static_cast<std::size_t>(columns)) << line;
    }
  }
  std::istringstream help(PlanCommandLine().help(80));
  for (std::string line; std::getline(help, line);) EXPECT_LE(line.size(), 80u) << line;
  EXPECT_EQ(wrapped_to("  one two three\n\nfour\n", 10), "  one two\n     three\n\nfour\n");
  EXPECT_EQ(wrapped_to("  averylongword stays\n", 8), "  averylongword stays\n");
}

TEST(PlanCommand, ColourIsForScreensThatWantIt) {
  PlanCommandLine command_line;
  ASSERT_EQ(command_line.parse({"--model", "SmolLM2-135M"}), OptionRequest::run);
  int code = 0;
  EXPECT_THAT(answer_plan(command_line.options(), {80, true}, code), HasSubstr("\033[36m"));
  EXPECT_THAT(answer_plan(command_line.options(), {80, false}, code), ::testing::Not(HasSubstr("\033")));
}

// The least is enough, and a good deal less is not.
TEST(PlanCommand, TheHostMemoryThatIsAskedForIsTheLeast) {
  for (std::vector<std::string> arguments : std::vector<std::vector<std::string>>{
           {"--model", "GLM-4-9B-0414", "--host-memory", "40GB"},
           {"--model", "LLaMA-7B", "--gpu", "rtx4090", "--host-memory", "32GB"},
           {"--model", "OPT-13B", "--ranks", "2", "--host-memory", "64GB"}}) {
    const std::string gib = between(ask(arguments).text, "--host-memory ", "GiB (");
    ASSERT_FALSE(gib.empty()) << arguments[1];
    arguments.back() = gib + "GiB";
    EXPECT_TRUE(plan(arguments)["fits"]) << arguments[1] << " " << gib;
    arguments.back() = std::to_string(std::stoi(gib) * 9 / 10) + "GiB";
    EXPECT_FALSE(plan(arguments)["fits"]) << arguments[1] << " " << arguments.back();
  }
}

TEST(PlanCommand, OptInsAreCombinedWithWhatElseIsNeeded) {
  const std::string text = ask({"--model", "GLM-4-9B-0414", "--host-memory", "40GB"}).text;
  const std::string gib =
      between(text, "or with --host-memory ", "GiB and --gradient-dtype bf16 --moment-dtype bf16 (");
  ASSERT_FALSE(gib.empty()) << text;
  EXPECT_TRUE(plan({"--model", "GLM-4-9B-0414", "--gradient-dtype", "bf16", "--moment-dtype", "bf16",
                    "--host-memory", gib + "GiB"})["fits"]);
}

TEST(PlanCommand, RefusalsNameASmallerModelThatFitsAndTheAdapter) {
  for (std::vector<std::string> arguments : std::vector<std::vector<std::string>>{
           {"--gpu", "a100-80gb", "--host-memory", "64GB", "--model", "LLaMA-13B"},
           {"--gpu", "rtx4090", "--host-memory", "32GB", "--model", "Llama-3-8B"},
           {"--gpu", "generic-16gb", "--host-memory", "32GB", "--model", "LLaMA-7B"}}) {
    const std::string text = ask(arguments).text;
    const std::string smaller = between(text, "a smaller model would fit as it is: ", " (");
    ASSERT_FALSE(smaller.empty()) << text;
    EXPECT_THAT(text, ContainsPattern("an adapter would need, by estimate, .*not trained yet"));
    arguments.back() = smaller;
    EXPECT_TRUE(plan(arguments)["fits"]) << smaller;
  }
}

TEST(PlanCommand, WhatIsFarOffIsFoldedAndNumbersHaveSeparators) {
  const std::string text = ask({"--model", "Llama-3-8B", "--ranks", "8", "--gpu", "a100-40gb"}).text;
  EXPECT_THAT(text, ContainsPattern("more, far off, needs? .* more on the device or the host: .*ddp"));
  EXPECT_THAT(text, ContainsPattern(" [0-9]+,[0-9][0-9][0-9] +[0-9.]+%  chosen"));
  EXPECT_THAT(text, ContainsPattern("step: [0-9.]+ s, estimated: forward and backward"));
}

}  // namespace
}  // namespace autoglm
