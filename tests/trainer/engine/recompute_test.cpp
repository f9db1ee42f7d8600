// Recompute levels change memory only: losses, norms and weights keep every bit.
#include <gtest/gtest.h>

#include "tests/trainer/engine/tiny_model.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLength = 83;
constexpr int kSteps = 4;
constexpr double kClip = 0.25;

struct Outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  double evaluated = 0;
  tiny::Weights weights;
};

// Trains on the same rows whatever the strategy: two rows a micro-batch, three micro-batches a step.
Outcome train(const tiny::Shape& shape, Precision precision, Strategy strategy) {
  Model model = make_model(tiny::config_of(shape));
  EngineOptions options;
  options.precision = precision;
  options.row_length = kLength;
  strategy.micro_batch = 2;
  strategy.head_chunks = 3;
  options.strategy = strategy;
  const auto communicator = make_self_communicator();
  Engine engine(model, options, *communicator);
  tiny::load_random(engine);
  AdamWSettings adamw;
  adamw.weight_decay = 0.1;
  MicroBatch batch(2, kLength, at::kCPU);
  std::mt19937 random(7);
  Outcome outcome;
  for (int step = 1; step <= kSteps; ++step) {
    std::vector<tiny::Row> rows;
    std::int64_t supervised = 0;
    for (int i = 0; i < 6; ++i) {
      rows.push_back(tiny::random_row(random, kLength, shape.vocabulary));
      supervised += rows.back().num_supervised();
    }
    double loss = 0;
    for (std::size_t first = 0; first < rows.size(); first += 2) {
      tiny::fill(batch, std::span(rows).subspan(first, 2));
      loss += engine.train_micro_batch(batch, 1.0f / static_cast<float>(supervised));
    }
    const StepSums sums = engine.finish_accumulation(loss);
    outcome.losses.push_back(sums.loss_sum / static_cast<double>(supervised));
    outcome.norms.push_back(sums.gradient_norm);
    engine.optimizer_step(adamw, 3e-3, step, clip_factor(sums.gradient_norm, kClip));
  }
  outcome.evaluated = engine.evaluate_micro_batch(batch);
  outcome.weights = tiny::weights_of(engine);
  return outcome;
}

void expect_same_bits(const Outcome& expected, const Outcome& actual) {
  EXPECT_EQ(expected.losses, actual.losses);
  EXPECT_EQ(expected.norms, actual.norms);
  EXPECT_EQ(expected.evaluated, actual.evaluated);
  ASSERT_EQ(expected.weights.size(), actual.weights.size());
  for (const auto& [name, values] : expected.weights) {
    EXPECT_EQ(tiny::differing_bits(values, actual.weights.at(name)), 0) << name;
  }
}

// That the comparison means something: clipping was active, the loss fell, and no parameter stood still.
void expect_trained(const Outcome& outcome, const tiny::Shape& shape) {
  EXPECT_GT(*std::min_element(outcome.norms.begin(), outcome.norms.end()), kClip);
  EXPECT_LT(outcome.losses.back(), outcome.losses.front() - 0.01);
  Model model = make_model(tiny::config_of(shape));
  const auto communicator = make_self_communicator();
  EngineOptions options;
  options.precision = Precision::fp32;
  options.row_length = kLength;
  Engine fresh(model, options, *communicator);
  tiny::load_random(fresh);
  for (const auto& [name, values] : tiny::weights_of(fresh)) {
    EXPECT_GT(tiny::differing_bits(values, outcome.weights.at(name)),
              static_cast<std::int64_t>(values.size()) / 2)
        << name;
  }
}

struct Case {
  const char* name;
  tiny::Shape shape;
};

class RecomputeTest : public ::testing::TestWithParam<std::tuple<Case, Precision>> {};

TEST_P(RecomputeTest, EveryLevelGivesTheSameBits) {
  const auto& [chosen, precision] = GetParam();
  const Outcome expected = train(chosen.shape, precision, {});
  expect_trained(expected, chosen.shape);
  for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
    for (const std::int64_t layers : {-1, 1, 2}) {
      SCOPED_TRACE(fmt::format("{} of {} layers", recompute_name(level), layers));
      Strategy strategy;
      strategy.recompute = level;
      strategy.recompute_layers = layers;
      expect_same_bits(expected, train(chosen.shape, precision, strategy));
    }
  }
}

const Case kCases[] = {
    {"llama", {}},
    {"llama_tied", {.tied = true}},
    {"llama_biases", {.attention_bias = true, .mlp_bias = true, .key_heads = 6}},
    {"glm4", {.family = "glm4", .attention_bias = true, .head_dim = 12}},
    {"glm4_tied", {.family = "glm4", .tied = true, .key_heads = 1, .head_dim = 12}},
    {"opt", {.family = "opt", .tied = true}},
    {"opt_norms_last", {.family = "opt", .tied = true, .embedding = 28, .norm_first = false}},
};

INSTANTIATE_TEST_SUITE_P(Models, RecomputeTest,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::Values(Precision::fp32, Precision::bf16)),
                         [](const auto& info) {
                           return fmt::format("{}_{}", std::get<0>(info.param).name,
                                              precision_name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace autoglm
