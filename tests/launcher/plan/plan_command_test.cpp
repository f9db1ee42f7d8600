// What autoglm-plan answers for models and devices whose needs were worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/launcher/plan/ask.h"

namespace autoglm {
namespace {

using ::testing::HasSubstr;

constexpr double kGiB = 1024.0 * 1024 * 1024;

// ZeRO-3 with everything recomputed, as in the sheet of formulas.
std::vector<std::string> sheet(const std::string& model, int ranks) {
  return {"--model",
          model,
          "--gpu",
          "h200",
          "--ranks",
          std::to_string(ranks),
          "--strategy",
          "zero3",
          "--weights",
          "peers",
          "--recompute",
          "full",
          "--micro-batch",
          "1",
          "--head-chunks",
          "8",
          "--offload-optimizer",
          "0",
          "--offload-activations",
          "0"};
}

TEST(PlanCommand, StatesAreTheBytesOfTheFormulas) {
  struct Case {
    const char* model;
    double parameters;
  };
  for (const Case& one : {Case{"GLM-4-9B-0414", 9'399'951'360.0}, Case{"LLaMA-7B", 6'738'415'616.0},
                          Case{"OPT-13B", 12'853'473'280.0}}) {
    for (const int ranks : {4, 8, 16}) {
      const nlohmann::json bytes = plan(sheet(one.model, ranks))["predicted_device_bytes_at_peak"];
      const double shard = one.parameters / ranks;
      // bf16 weights; 2 bytes that they lack and two fp32 moments.
      EXPECT_NEAR(bytes["weights"].get<double>() / (2 * shard), 1, 1e-3) << one.model << " on " << ranks;
      EXPECT_NEAR(bytes["master"].get<double>() / (10 * shard), 1, 1e-3) << one.model << " on " << ranks;
      // The sum in fp32, and buffers of two layers and the largest matrix.
      EXPECT_GT(bytes["gradients"].get<double>(), 4 * shard);
      EXPECT_LT(bytes["gradients"].get<double>(), 4 * shard + 6 * kGiB);
    }
  }
}

TEST(PlanCommand, Glm4FitsOnEightFourTwoAndOneCardOf40GB) {
  const auto on = [](int ranks, const char* host) {
    return plan({"--model", "GLM-4-9B-0414", "--gpu", "a100-40gb", "--ranks", std::to_string(ranks),
                 "--host-memory", host});
  };
  const nlohmann::json eight = on(8, "128GiB");
  EXPECT_TRUE(eight["fits"]);
  // Nothing but a micro-batch, with an id, a position and a target for each token, and what states are saved through.
  const auto micro_batch = [](const nlohmann::json& plan) {
    return plan["chosen"]["micro_batch"].get<std::int64_t>() * 2048 * (8 + 4 + 4) + (10 << 20);
  };
  EXPECT_EQ(eight["predicted_host_peak_bytes"], micro_batch(eight));
  const nlohmann::json four = on(4, "128GiB");
  EXPECT_TRUE(four["fits"]);
  EXPECT_LT(four["chosen"]["offload_optimizer"], 0.2);
  const nlohmann::json four_pinned =
      plan({"--model", "GLM-4-9B-0414", "--ranks", "4", "--gradient-dtype", "bf16", "--offload-optimizer",
            "0", "--offload-activations", "0", "--weights", "peers"});
  EXPECT_TRUE(four_pinned["fits"]);
  EXPECT_EQ(four_pinned["predicted_host_peak_bytes"], micro_batch(four_pinned));
  EXPECT_TRUE(on(2, "128GiB")["fits"]);
  const nlohmann::json one = on(1, "128GiB");
  EXPECT_TRUE(one["fits"]);
  const double host = one["predicted_host_peak_bytes"].get<double>() / kGiB;
  EXPECT_GT(host, 90);
  EXPECT_LT(host, 123);
  for (const nlohmann::json& each : {eight, four, one})
    EXPECT_LE(each["predicted_device_peak_bytes"], each["device_budget_bytes"]);
}

TEST(PlanCommand, SmallAndLargeOnes) {
  const nlohmann::json seven = plan({"--model", "LLaMA-7B", "--gpu", "rtx4090", "--host-memory", "128GiB"});
  EXPECT_TRUE(seven["fits"]);
  EXPECT_GT(seven["predicted_host_peak_bytes"].get<double>(), 60 * kGiB);
  const Answer seventy = ask({"--model", "Llama-3-70B", "--ranks", "8", "--host-memory", "128GiB"});
  EXPECT_EQ(seventy.exit_code, static_cast<int>(ExitCode::does_not_fit));
  EXPECT_THAT(seventy.text, HasSubstr("nothing fits"));
  EXPECT_THAT(seventy.text, HasSubstr("it would fit with"));
}

TEST(PlanCommand, ExplainsItself) {
  const std::string text = ask({"--model", "GLM-4-9B-0414", "--ranks", "8"}).text;
  for (const char* word :
       {"chosen", "% slower", "more on the device", "to spare", "weights", "gradients", "####",
        "twice the micro-batch", "twice the sequence length", "--gradient-dtype bf16"})
    EXPECT_THAT(text, HasSubstr(word));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("\033")));
}

TEST(PlanCommand, Tables) {
  const std::string tiers = ask({"--model", "LLaMA-7B", "--memory", "8,16,24,40,48,80"}).text;
  for (const char* word : {"8 GB", "80 GB", "LoRA", "QLoRA", "host"}) EXPECT_THAT(tiers, HasSubstr(word));
  const nlohmann::json inference =
      plan({"--model", "LLaMA-7B", "--inference", "--batch", "2", "--context", "4096"})["formats"];
  ASSERT_EQ(inference.size(), 5u);
  EXPECT_EQ(inference[1]["format"], "FP16");
  EXPECT_EQ(inference[1]["weight_bytes"], 2 * 6'738'415'616LL);
  EXPECT_EQ(inference[1]["key_value_bytes"], 2LL * 2 * 4096 * 32 * 4096 * 2);
  EXPECT_LT(inference[4]["weight_bytes"], inference[3]["weight_bytes"]);
}

TEST(PlanCommand, RefusesInOneSentence) {
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--gpu", "a100-41gb"}), HasSubstr("a100-40gb"));
  EXPECT_THAT(refusal({"--model", "LLama-8B"}), HasSubstr("Llama-3-8B"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--node-link", "carrier-pigeon"}), HasSubstr("carrier-pigeon"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--ranks", "0"}), HasSubstr("--ranks takes"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--ranks", "2", "--nodes", "3"}),
              HasSubstr("every node needs a rank"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--memory", "8,x"}), HasSubstr("--memory takes"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--memory", "8", "--inference"}), HasSubstr("two tables"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--strategy", "zero3", "--weights", "resident"}),
              HasSubstr("use peers or host"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--micro-batch", "64"}), HasSubstr("--global-batch"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--memory", "8,"}), HasSubstr("commas between them"));
  EXPECT_THAT(refusal({"--model", "LLaMA-7B", "--node-link", "nvlink4"}), HasSubstr("of one node"));
  EXPECT_THAT(refusal({"--model", "OPT-125M", "--recompute", "full", "--recompute-layers", "13"}),
              HasSubstr("the 12 layers"));
  EXPECT_THAT(refusal({"--model", "/nowhere/LLaMA-7B"}, ExitCode::missing_input), HasSubstr("no folder"));
  EXPECT_THAT(refusal({}), HasSubstr("--model is missing"));
  EXPECT_THAT(refusal({"--model", "nowhere/config.json"}, ExitCode::missing_input),
              HasSubstr("cannot be read"));
}

TEST(PlanCommand, WhatTwiceAsMuchNeedsIsTrueOfBothPools) {
  const std::string host =
      ask({"--model", "SmolLM2-135M", "--recompute", "full", "--offload-activations", "1", "--micro-batch",
           "16", "--global-batch", "32", "--host-memory", "6.3GiB"})
          .text;
  EXPECT_THAT(host, ContainsPattern("twice the micro-batch .* too many on the host"));
  EXPECT_THAT(ask({"--model", "OPT-125M"}).text, HasSubstr("more than the model's 2048 positions"));
  EXPECT_THAT(ask({"--model", "SmolLM2-135M"}).text, HasSubstr("fits (with --global-batch 32)"));
}

TEST(PlanCommand, TiersHoldNoMoreThanTheirNameSays) {
  const nlohmann::json tiers = plan({"--model", "LLaMA-7B", "--memory", "22,24,46,137"})["tiers"];
  for (const nlohmann::json& tier : tiers)
    EXPECT_LT(tier["with_host"]["device_bytes"].get<double>(), 1e9 * tier["gigabytes"].get<double>());
  EXPECT_LT(tiers[0]["with_host"]["device_bytes"], tiers[1]["with_host"]["device_bytes"]);
  const nlohmann::json limited =
      plan({"--model", "LLaMA-7B", "--ranks", "8", "--memory", "40", "--memory-limit", "10GB"})["tiers"];
  EXPECT_FALSE(limited[0]["lora_estimate_fits"]);
}

TEST(PlanCommand, AdviceHolds) {
  const std::string limited =
      ask({"--model", "SmolLM2-135M", "--memory-limit", "400MB", "--strategy", "ddp", "--recompute", "full",
           "--weights", "resident", "--offload-optimizer", "0", "--offload-activations", "0"})
          .text;
  EXPECT_THAT(limited, HasSubstr("it would fit with the strategy's options left to auto"));
  const std::string tight = ask({"--model", "SmolLM2-135M", "--memory-limit", "100MB"}).text;
  const std::string option = "it would fit with --memory-limit ";
  ASSERT_THAT(tight, HasSubstr(option));
  const std::string bytes = tight.substr(tight.find(option) + option.size());
  EXPECT_TRUE(plan({"--model", "SmolLM2-135M", "--memory-limit", bytes.substr(0, bytes.find(' '))})["fits"]);

  EXPECT_THAT(
      ask({"--model", "GLM-4-9B-0414", "--ranks", "8", "--host-memory", "30GB", "--reduce", "step"}).text,
      HasSubstr("it would fit with --reduce micro-batch"));
}

TEST(PlanCommand, RefusalsNameAllThatIsMissing) {
  const Answer both = ask({"--model", "GLM-4-9B-0414", "--gpu", "generic-8gb", "--host-memory", "40GB"});
  EXPECT_EQ(both.exit_code, static_cast<int>(ExitCode::does_not_fit));
  EXPECT_THAT(both.text, HasSubstr("too much on the device"));
  EXPECT_THAT(both.text, HasSubstr("too much on the host"));
  const nlohmann::json object =
      plan({"--model", "GLM-4-9B-0414", "--gpu", "generic-8gb", "--host-memory", "40GB"});
  EXPECT_GT(object["nearest"]["host_bytes_missing"], 0);
  EXPECT_GT(object["nearest"]["host_bytes"], object["host_budget_bytes"]);
}

TEST(PlanCommand, LargeStepsAndDeepModelsArePlannedToo) {
  EXPECT_TRUE(plan({"--model", "SmolLM2-135M", "--global-batch", "1048576"})["fits"]);
  EXPECT_EQ(plan({"--model", "OPT-125M", "--weights", "peers"})["chosen"]["strategy"], "zero3");
}

TEST(PlanCommand, ListsAsJson) {
  const nlohmann::json list = plan({"--list"});
  EXPECT_THAT(list["models"], ::testing::Contains("GLM-4-9B-0414"));
  EXPECT_GT(list["devices"].size(), 8u);
  EXPECT_GT(list["links"].size(), 4u);
}

}  // namespace
}  // namespace autoglm
