// Prices composed from a few layers beside rehearsals of all of them, where layers are not all alike.
#include "launcher/planner/memory_model.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "launcher/planner/probe.h"
#include "launcher/planner/search.h"
#include "tests/trainer/engine/tiny_model.h"
#include "trainer/models/architecture.h"
#include "trainer/models/parts.h"
#include "trainer/ops/linear.h"
#include "trainer/ops/residual.h"

namespace autoglm {
namespace {

// A layer with attention in every second place, and in the others with a wider MLP alone.
class MixedLayer final : public LayerBlock {
 public:
  MixedLayer(const ModelConfig& config, std::int64_t index)
      : LayerBlock(config, index, "model.layers."),
        norm_(add_norm(ops::NormKind::rms, "norm", config.hidden_size, config.norm_epsilon)) {
    if (index % 2 == 0) attention_.emplace(*this, config, SelfAttention::Options{});
    ModelConfig mine = config;
    mine.intermediate_size *= attention_ ? 1 : 3;
    mlp_norm_ = add_norm(ops::NormKind::rms, "mlp_norm", config.hidden_size, config.norm_epsilon);
    mlp_.emplace(*this, mine, GatedMlp::Layout::apart);
  }
  at::Tensor forward(const at::Tensor& x, const ForwardContext& context) override {
    ops::Residual residual = attention_ ? attention_->forward({.stream = x}, norm_, context)
                                        : ops::Residual{.stream = ops::normalize(x, norm_)};
    return ops::join(mlp_->forward(std::move(residual), mlp_norm_, context));
  }

 private:
  ops::Norm norm_, mlp_norm_;
  std::optional<SelfAttention> attention_;
  std::optional<GatedMlp> mlp_;
};

MemoryQuestion question_of(const std::string& family, std::int64_t layers) {
  static const bool added = [] {
    add_architecture(
        {.model_type = "mixed", .known_as = "", .parse = nullptr, .layer = make_layer<MixedLayer>});
    return true;
  }();
  EXPECT_TRUE(added);
  tiny::Shape shape;
  shape.family = family;
  shape.layers = layers;
  shape.hidden = 128;
  shape.head_dim = 16;
  shape.ffn = 256;
  shape.vocabulary = 700;
  MemoryQuestion question;
  question.model = tiny::config_of(shape);
  question.row_length = 128;
  question.world_size = 2;
  return question;
}

std::vector<Strategy> strategies() {
  std::vector<Strategy> all;
  for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
    for (const std::int64_t layers : {-1, 1, 2, 3, 5}) {
      for (const double offload : {0.0, 0.5, 1.0}) {
        if (level == Recompute::none && layers >= 0) continue;
        if (level != Recompute::full && offload > 0) continue;
        Strategy strategy;
        strategy.recompute = level;
        strategy.recompute_layers = layers;
        strategy.offload_activations = offload;
        strategy.micro_batch = 2;
        all.push_back(strategy);
      }
    }
  }
  return all;
}

void expect_prices(MemoryQuestion question) {
  MemoryModel memory(question);
  for (const Strategy& strategy : strategies()) {
    SCOPED_TRACE(describe_strategy(strategy));
    const MemoryPrice price = memory.price(strategy);
    const MemoryStatistics whole = memory.rehearse(strategy);
    const auto error = [](std::int64_t priced, std::int64_t rehearsed) {
      return rehearsed == 0 ? 0 : static_cast<double>(priced) / static_cast<double>(rehearsed) - 1;
    };
    const bool part = strategy.offload_activations > 0 && strategy.offload_activations < 1;
    const double device = error(price.device.total, whole.device.peak.total);
    EXPECT_LE(device, part ? 0.1 : 0.02);
    EXPECT_GE(device, -0.02);
    EXPECT_NEAR(error(price.host.total, whole.host.peak.total), 0, 0.02);
  }
}

std::vector<std::string> names_where(const ModelConfig& config,
                                     const std::function<bool(const std::string&)>& chosen) {
  std::vector<std::string> names;
  const Model model = make_model(config);
  for (const Parameter* parameter : model.parameters()) {
    if (chosen(parameter->name())) names.push_back(parameter->name());
  }
  return names;
}

TEST(MemoryModelTest, PricesLayersOfTwoKinds) {
  for (const std::int64_t layers : {1, 2, 5, 8}) expect_prices(question_of("mixed", layers));
}

TEST(MemoryModelTest, PricesAFrozenLowerHalf) {
  for (const char* family : {"llama", "glm4", "mixed"}) {
    SCOPED_TRACE(family);
    MemoryQuestion question = question_of(family, 8);
    question.frozen = names_where(question.model, [](const std::string& name) {
      return name.find("embed") != std::string::npos || name.find("layers.0.") != std::string::npos ||
             name.find("layers.1.") != std::string::npos || name.find("layers.2.") != std::string::npos ||
             name.find("layers.3.") != std::string::npos;
    });
    expect_prices(question);
  }
}

TEST(MemoryModelTest, PricesAModelOfWhichLittleIsTrained) {
  MemoryQuestion question = question_of("llama", 8);
  question.frozen = names_where(question.model, [](const std::string& name) {
    return name.find("layers.5.self_attn.q_proj") == std::string::npos;
  });
  expect_prices(question);
  question.frozen =
      names_where(question.model, [](const std::string& name) { return name != "model.norm.weight"; });
  expect_prices(question);
}

TEST(MemoryModelTest, KeepsTheFirstAndTheLastLayerOfEveryGroup) {
  const LayerNumbering alternating{0, 1, 0, 1, 0, 1, 0, 1};
  const ShallowModel all(alternating, 0);
  EXPECT_EQ(all.kept().numbers, (std::vector<std::int64_t>{0, 1, 6, 7}));
  const ShallowModel parts(alternating, 4);
  EXPECT_EQ(parts.kept().numbers, (std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  const ShallowModel alike(LayerNumbering(9, 0), 5);
  EXPECT_EQ(alike.kept().numbers, (std::vector<std::int64_t>{0, 4, 5, 8}));
  const std::size_t recomputing = ShallowModel::group(0, true), others = ShallowModel::group(0, false);
  EXPECT_EQ(alike.left_out(recomputing, 9), 3);
  EXPECT_EQ(alike.left_out(recomputing, 4), 3);
  EXPECT_EQ(alike.left_out(others, 5), 0);
  EXPECT_EQ(alike.left_out(others, 9), 2);
  EXPECT_EQ(alike.count(recomputing, 2, 9), 3);
}

// The time of a mixed model lies between those of models of one of its kinds.
TEST(MemoryModelTest, LayersOfEveryKindTakeTheirOwnTime) {
  const ModelWork work = work_of(question_of("mixed", 5));
  ASSERT_EQ(work.layers.size(), 2u);
  EXPECT_EQ(work.layers[0].count, 3);
  EXPECT_EQ(work.layers[1].count, 2);
  EXPECT_EQ(work.commonest_layer().number, 0);
  EXPECT_EQ(work.layers[1].elements, 128.0 * 256 * 3 * 3);
  MemoryModel memory(question_of("mixed", 5));
  TimeModel time(memory, guessed_cpu_rates());
  Strategy some, all;
  some.recompute = all.recompute = Recompute::full;
  some.recompute_layers = 1;
  EXPECT_LT(time.step(some, 1).recompute, time.step(all, 1).recompute);
}

}  // namespace
}  // namespace autoglm
