// What a step of known models moves and computes: a pass too many changes these figures.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/launcher/plan/ask.h"

namespace autoglm {
namespace {

// Micro-batches of one row of 2048 tokens, nothing recomputed, nothing on the host.
nlohmann::json work_of(const std::string& model, const std::string& stage, int micro_batches = 1,
                       std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = {
      "--model",     model,  "--gpu",         "h200", "--ranks",        "8",
      "--strategy",  stage,  "--micro-batch", "1",    "--global-batch", std::to_string(8 * micro_batches),
      "--recompute", "none", "--head-chunks", "8",    "--host-memory",  "8192GiB",
      "--work"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const nlohmann::json answer = plan(arguments);
  EXPECT_TRUE(answer.contains("work")) << answer.dump(2);
  return answer["work"];
}

std::int64_t bytes(const nlohmann::json& work) {
  return work["read_bytes"].get<std::int64_t>() + work["written_bytes"].get<std::int64_t>();
}

std::int64_t bytes_a_token(const nlohmann::json& pass, const std::string& kind) {
  return pass.contains(kind) ? bytes(pass[kind]) / 2048 : 0;
}

std::int64_t launches(const nlohmann::json& pass) {
  std::int64_t sum = 0;
  for (const auto& [kind, work] : pass.items()) {
    if (kind != "gathered" && kind != "reduced") sum += work["launches"].get<std::int64_t>();
  }
  return sum;
}

// Of a hidden size of 4096, 32 heads of 128 with 2 of keys, and 13,696 between gate and down.
TEST(StepWork, OfAGlmLayer) {
  const nlohmann::json work = work_of("GLM-4-9B-0414", "zero2");
  const nlohmann::json &forward = work["forward"], &backward = work["backward"];
  constexpr std::int64_t kRow = 2 * 4096, kKeys = 2 * 256, kGate = 2 * 13696;
  // The first norm; the two around the first sum, with it; and the last with the second sum.
  EXPECT_EQ(bytes_a_token(forward, "norms"), 2 * kRow + 4 + 4 * kRow + 8 + 3 * kRow + 4);
  // Half of each head turns, where it lies.
  EXPECT_EQ(bytes_a_token(forward, "rotary"), kRow + kKeys + 4);
  EXPECT_EQ(bytes_a_token(forward, "activations"), 3 * kGate);
  EXPECT_EQ(bytes_a_token(forward, "residuals"), 0);
  EXPECT_EQ(bytes_a_token(forward, "sums of products"), 0);
  // Queries, keys and values are one product, which reads its input once; then the output, gate with up, and down.
  constexpr std::int64_t kWeights = 2 * (4096 * (4096 + 2 * 256) + 4096 * 4096 + 3 * 4096 * 13696);
  EXPECT_EQ(bytes(forward["products"]),
            kWeights + 2048 * (2 * kRow + 2 * kKeys + 2 * kRow + kRow + 2 * kGate + kGate + kRow));
  EXPECT_EQ(launches(forward), 10);

  // The sums of 16 rows for the weight's gradient are written and read.
  EXPECT_EQ(bytes_a_token(backward, "norms"),
            3 * kRow + 4 + 6 * kRow + 8 + 4 * kRow + 4 + 4 * (2 * 1024 + 8));
  // The gradients of q, k and v come to lie side by side.
  EXPECT_EQ(bytes_a_token(backward, "rotary"), 2 * kRow + 4 * kKeys + 4);
  EXPECT_EQ(bytes_a_token(backward, "activations"), 5 * kGate);
  EXPECT_EQ(bytes_a_token(backward, "residuals"), 0);
  EXPECT_EQ(bytes_a_token(backward, "sums of products"), 0);
  EXPECT_EQ(launches(backward), 25);
}

TEST(StepWork, ProductsTakeSixOperationsForEveryElementAndToken) {
  const nlohmann::json work = work_of("GLM-4-9B-0414", "zero2", 2);
  constexpr double kLayer = 4096.0 * (4096 + 2 * 256 + 4096 + 3 * 13696), kHead = 151552.0 * 4096;
  EXPECT_EQ(work["forward"]["products"]["operations"].get<double>(), 2.0 * 2048 * kLayer);
  EXPECT_EQ(work["backward"]["products"]["operations"].get<double>(), 4.0 * 2048 * kLayer);
  EXPECT_EQ(work["step"]["products"]["operations"].get<double>(), 2 * 6.0 * 2048 * (40 * kLayer + kHead));
}

// Elements that a rank sends: a sum, or a gathering, of so many parameters costs 7 of 8.
TEST(StepWork, RanksSendWhatTheStageSays) {
  constexpr double kParameters = 9'399'951'360.0, kLayer = 203'927'040.0;
  constexpr double kShare = 7.0 / 8;
  for (const int micro_batches : {1, 3}) {
    const auto sent = [&](const std::string& stage, const std::string& reduce_dtype = "fp32") {
      const nlohmann::json work =
          work_of("GLM-4-9B-0414", stage, micro_batches, {"--reduce-dtype", reduce_dtype});
      const nlohmann::json& step = work["step"];
      return step["gathered"]["written_bytes"].get<double>() + step["reduced"]["written_bytes"].get<double>();
    };
    const double reduced = micro_batches * 4 * kParameters;
    EXPECT_NEAR(sent("ddp") / (kShare * (reduced + 4 * kParameters)), 1, 1e-4) << micro_batches;
    EXPECT_NEAR(sent("zero2") / (kShare * (reduced + 2 * kParameters)), 1, 1e-4) << micro_batches;
    EXPECT_NEAR(sent("zero2", "bf16") / (kShare * (reduced / 2 + 2 * kParameters)), 1, 1e-4) << micro_batches;
    // Forward and backward gather, but for the last two layers of either, and for what a backward does not read.
    const double gathered = micro_batches * (kParameters + 38 * kLayer) - (micro_batches - 1) * 2 * kLayer;
    EXPECT_NEAR(sent("zero3") / (kShare * (reduced + 2 * gathered)), 1, 1e-4) << micro_batches;
  }
}

// Once for each micro-batch, whatever it takes: four bytes for every element that a product writes. The embedding is
// zeroed, and the chunks of the head add to what the first has written.
TEST(StepWork, GradientsAreWrittenOnce) {
  constexpr double kLayers = 40 * 203'927'040.0, kTable = 151'552.0 * 4096;
  const auto moved = [&](int micro_batches) {
    return static_cast<double>(bytes(work_of("GLM-4-9B-0414", "zero2", micro_batches)["step"]["gradients"]));
  };
  EXPECT_NEAR(moved(1) / (4 * kLayers + 4 * kTable + (4 + 7 * 8) * kTable), 1, 0.02);
  // A later one is added to the sums: 12 bytes for every element of the shard.
  EXPECT_NEAR((moved(2) - moved(1)) / (moved(1) + 12 * (kLayers + 2 * kTable) / 8), 1, 0.02);
}

}  // namespace
}  // namespace autoglm
