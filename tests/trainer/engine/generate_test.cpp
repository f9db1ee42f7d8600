// Answers with a cache are those of whole forward passes.
#include <ATen/ops/argmax.h>
#include <gtest/gtest.h>

#include "tests/trainer/engine/tiny_model.h"
#include "trainer/engine/generator.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLength = 40;

class GenerateTest : public ::testing::TestWithParam<tiny::Shape> {
 protected:
  GenerateTest() : model_(make_model(tiny::config_of(GetParam()))), communicator_(make_self_communicator()) {
    EngineOptions options;
    options.precision = Precision::fp32;
    options.row_length = kLength;
    engine_.emplace(model_, options, *communicator_);
    tiny::load_random(*engine_, 1, 0.5f);
  }

  // Logits [V] of the last of `ids`, by a forward pass over all of them and what pads the row.
  at::Tensor last_logits(const std::vector<std::int32_t>& ids) {
    MicroBatch batch(1, kLength, at::kCPU);
    tiny::Row row;
    row.ids = ids;
    row.ids.resize(kLength, 0);
    row.targets.assign(kLength, ops::kIgnoredTarget);
    for (std::int32_t i = 0; i < kLength; ++i) row.positions.push_back(i);
    row.starts = {0};
    tiny::fill(batch, std::span(&row, 1));
    return engine_->logits(batch).select(0, static_cast<std::int64_t>(ids.size()) - 1).clone();
  }

  Model model_;
  std::unique_ptr<Communicator> communicator_;
  std::optional<Engine> engine_;
};

TEST_P(GenerateTest, GreedyTokensAreThoseOfWholeForwardPasses) {
  std::vector<std::int32_t> ids{5, 17, 3, 99, 42, 8, 61};
  const std::vector<std::int32_t> answer = generate(*engine_, ids, 25, {});
  ASSERT_EQ(answer.size(), 25u);
  for (const std::int32_t token : answer) {
    const at::Tensor logits = last_logits(ids);
    const auto best = static_cast<std::int32_t>(logits.argmax().item<std::int64_t>());
    EXPECT_EQ(token, best) << "after " << ids.size() << " tokens; logits " << logits[token].item<float>()
                           << " and " << logits[best].item<float>();
    ids.push_back(token);
  }
  const std::set<std::int32_t> distinct(answer.begin(), answer.end());
  EXPECT_GT(distinct.size(), 3u) << "an answer that repeats itself proves little";
}

TEST_P(GenerateTest, StopsBeforeAStopToken) {
  const std::vector<std::int32_t> prompt{5, 17, 3};
  const std::vector<std::int32_t> whole = generate(*engine_, prompt, 12, {});
  const std::int32_t stop = whole[6];
  const auto first = std::find(whole.begin(), whole.end(), stop);
  const std::vector<std::int32_t> cut = generate(*engine_, prompt, 12, std::vector<std::int32_t>{-1, stop});
  EXPECT_EQ(cut, std::vector<std::int32_t>(whole.begin(), first));
}

TEST_P(GenerateTest, RefusesMorePositionsThanItWasMadeFor) {
  const std::vector<std::int32_t> prompt{5, 17, 3};
  EXPECT_EQ(generate(*engine_, prompt, kLength - 3, {}).size(), static_cast<std::size_t>(kLength - 3));
  EXPECT_THROW(generate(*engine_, prompt, kLength - 2, {}), Error);
}

INSTANTIATE_TEST_SUITE_P(
    Models, GenerateTest,
    ::testing::Values(tiny::Shape{}, tiny::Shape{.tied = true, .key_heads = 6},
                      tiny::Shape{.family = "glm4", .attention_bias = true, .head_dim = 12},
                      tiny::Shape{.family = "opt", .tied = true},
                      tiny::Shape{.family = "opt", .embedding = 28, .norm_first = false}));

}  // namespace
}  // namespace autoglm
