// What the engine promises beside its numbers: every parameter takes part, frozen ones stand still, sums are
// over supervised tokens, weights come out as they went in.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sharding/memory/job_memory.h"
#include "tests/trainer/engine/tiny_model.h"
#include "trainer/ops/linear.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLength = 32;

EngineOptions options_for(Precision precision) {
  EngineOptions options;
  options.precision = precision;
  options.row_length = kLength;
  return options;
}

MicroBatch random_batch(std::uint32_t seed, std::int64_t vocabulary, double supervised = 0.6) {
  std::mt19937 random(seed);
  MicroBatch batch(1, kLength, at::kCPU);
  const tiny::Row row = tiny::random_row(random, kLength, vocabulary, supervised);
  tiny::fill(batch, std::span(&row, 1));
  return batch;
}

// A layer with one parameter that its function reads, and one that it may forget.
class ForgetfulBlock final : public LayerBlock {
 public:
  ForgetfulBlock(const ModelConfig& config, bool forgets) : LayerBlock(config, 1, ""), forgets_(forgets) {
    const std::int64_t hidden = config.hidden_size;
    used_ = add_projection("used", hidden, hidden, false);
    other_ = add_projection("other", hidden, hidden, false);
  }
  at::Tensor forward(const at::Tensor& x, const ForwardContext&) override {
    const at::Tensor y = ops::linear(x, used_);
    return forgets_ ? y : ops::linear(y, other_);
  }

 private:
  bool forgets_;
  ops::Projection used_, other_;
};

constexpr std::size_t kForgetful = 2;  // the second layer

class ForgetfulModel {
 public:
  explicit ForgetfulModel(bool forgets) : model(make_model(tiny::config_of({}))) {
    model.blocks[kForgetful] = std::make_unique<ForgetfulBlock>(model.config, forgets);
  }
  void train() {
    const auto communicator = make_self_communicator();
    Engine engine(model, options_for(Precision::fp32), *communicator);
    tiny::load_random(engine);
    engine.train_micro_batch(random_batch(3, model.config.vocabulary_size), 1);
  }
  Model model;
};

TEST(EngineTest, NamesAParameterThatGotNoGradient) {
  ForgetfulModel forgetful(true);
  try {
    forgetful.train();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bug);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("other.weight got no gradient"));
  }
  EXPECT_NO_THROW(ForgetfulModel(false).train());
}

TEST(EngineTest, AForgottenParameterMayBeFrozen) {
  ForgetfulModel forgetful(true);
  forgetful.model.blocks[kForgetful]->parameters()[1].set_trainable(false);
  EXPECT_NO_THROW(forgetful.train());
}

// Squares are taken while the last micro-batch is added, or in a pass of their own.
TEST(EngineTest, TheNormIsTheSameHoweverItsSquaresAreTaken) {
  std::vector<double> norms;
  for (const double offload : {0.0, 0.5, 1.0}) {
    for (const bool last : {false, true}) {
      Model model = make_model(tiny::config_of({}));
      const auto communicator = make_self_communicator();
      EngineOptions options = options_for(Precision::bf16);
      options.strategy.offload_optimizer = offload;
      Engine engine(model, options, *communicator);
      tiny::load_random(engine);
      for (std::int64_t step = 1; step <= 2; ++step) {
        engine.train_micro_batch(random_batch(3, 131), 1);
        engine.train_micro_batch(random_batch(4, 131), 1, last);
        norms.push_back(engine.finish_accumulation(0).gradient_norm);
        engine.optimizer_step({}, 1e-2, step, 1);
      }
    }
  }
  for (std::size_t i = 2; i < norms.size(); ++i) EXPECT_EQ(norms[i], norms[i % 2]) << i;
  EXPECT_GT(norms[0], 0);
}

TEST(EngineTest, FrozenParametersKeepTheirBitsAndOthersTheirGradients) {
  const auto is_frozen = [](const std::string& name) {
    return name.find("q_proj") != std::string::npos || name.find("norm") != std::string::npos;
  };
  // The weights before and after one step, as ops read them.
  const auto trained = [&](bool freezes) {
    Model model = make_model(tiny::config_of({}));
    for (Parameter* parameter : model.parameters()) {
      if (freezes && is_frozen(parameter->name())) parameter->set_trainable(false);
    }
    const auto communicator = make_self_communicator();
    Engine engine(model, options_for(Precision::fp32), *communicator);
    tiny::load_random(engine);
    const auto weights = [&] {
      tiny::Weights all;
      for (const Parameter* parameter : model.parameters()) {
        const float* values = parameter->weight().const_data_ptr<float>();
        all[parameter->name()].assign(values, values + parameter->weight().numel());
      }
      return all;
    };
    const tiny::Weights before = weights();
    engine.train_micro_batch(random_batch(3, 131), 1);
    engine.finish_accumulation(0);
    AdamWSettings settings;
    settings.weight_decay = 0.1;
    engine.optimizer_step(settings, 1e-2, 1, 1);
    for (const auto& [name, values] : tiny::weights_of(engine))
      EXPECT_FALSE(freezes && is_frozen(name)) << name;
    return std::pair(before, weights());
  };
  const auto [before, free] = trained(false);
  const tiny::Weights frozen = trained(true).second;
  for (const auto& [name, values] : before) {
    EXPECT_EQ(tiny::differing_bits(frozen.at(name), is_frozen(name) ? values : free.at(name)), 0) << name;
    EXPECT_GT(tiny::differing_bits(free.at(name), values), 0) << name;
  }
}

TEST(EngineTest, TheLossOfAnUnsupervisedMicroBatchIsZeroAndMovesNothing) {
  for (const bool tied : {false, true}) {
    tiny::Shape shape;
    shape.tied = tied;
    const auto norm_of = [&](bool with_empty) {
      Model model = make_model(tiny::config_of(shape));
      const auto communicator = make_self_communicator();
      Engine engine(model, options_for(Precision::bf16), *communicator);
      tiny::load_random(engine);
      double loss = engine.train_micro_batch(random_batch(3, 131), 1);
      if (with_empty) {
        const double nothing = engine.train_micro_batch(random_batch(4, 131, 0), 1);
        EXPECT_EQ(nothing, 0);
        loss += nothing;
      }
      return engine.finish_accumulation(loss);
    };
    const StepSums without = norm_of(false), with = norm_of(true);
    EXPECT_EQ(without.loss_sum, with.loss_sum);
    EXPECT_EQ(without.gradient_norm, with.gradient_norm);
    EXPECT_GT(without.gradient_norm, 0);
  }
}

TEST(EngineTest, DiscardedGradientsAreGone) {
  Model model = make_model(tiny::config_of({}));
  const auto communicator = make_self_communicator();
  Engine engine(model, options_for(Precision::fp32), *communicator);
  tiny::load_random(engine);
  const MicroBatch batch = random_batch(3, 131);
  engine.train_micro_batch(batch, 1);
  const double once = engine.finish_accumulation(0).gradient_norm;
  engine.train_micro_batch(batch, 1);
  EXPECT_NEAR(engine.finish_accumulation(0).gradient_norm, 2 * once, 1e-5 * once);
  engine.discard_gradients();
  engine.train_micro_batch(batch, 1);
  EXPECT_EQ(engine.finish_accumulation(0).gradient_norm, once);
}

// Whatever lies in the memory that the moments get, and though the first step may have updated nothing.
TEST(EngineTest, MomentsBeginAtZeroAtTheFirstUpdate) {
  install_job_memory();
  const auto trained = [](float dirt) {
    at::full({1 << 20}, dirt).sum();
    Model model = make_model(tiny::config_of({}));
    const auto communicator = make_self_communicator();
    Engine engine(model, options_for(Precision::fp32), *communicator);
    tiny::load_random(engine);
    engine.train_micro_batch(random_batch(3, 131), 1);
    engine.finish_accumulation(0);
    engine.optimizer_step({}, 1e-2, 2, 1);
    return tiny::weights_of(engine);
  };
  const tiny::Weights clean = trained(0), dirty = trained(NAN);
  for (const auto& [name, values] : clean) EXPECT_EQ(tiny::differing_bits(values, dirty.at(name)), 0) << name;
}

// Under bf16 masters keep what was loaded; rounding happens on the way out where it is asked for, and an
// evaluation after round_to_saved() sees what was written.
TEST(EngineTest, WeightsComeOutAsTheyWentInOrRounded) {
  Model model = make_model(tiny::config_of({}));
  const auto communicator = make_self_communicator();
  Engine engine(model, options_for(Precision::fp32), *communicator);
  tiny::load_random(engine);
  const tiny::Weights whole = tiny::weights_of(engine);
  EXPECT_EQ(whole.size(), model.parameters().size());
  const auto save = [](const std::string& name) {
    return name.find("mlp") != std::string::npos ? DType::bfloat16 : DType::float32;
  };
  tiny::Weights saved;
  engine.state_access().export_parameters(
      save, [&](const std::string& name, std::int64_t, std::span<const float> values) {
        saved[name].assign(values.begin(), values.end());
      });
  const MicroBatch batch = random_batch(3, 131);
  const double before = engine.evaluate_micro_batch(batch);
  engine.state_access().round_to_saved(save);
  EXPECT_NE(engine.evaluate_micro_batch(batch), before);
  const tiny::Weights rounded = tiny::weights_of(engine);
  for (const auto& [name, values] : whole) {
    EXPECT_EQ(tiny::differing_bits(saved.at(name), rounded.at(name)), 0) << name;
    const bool rounds = save(name) == DType::bfloat16;
    EXPECT_EQ(tiny::differing_bits(saved.at(name), values) == 0, !rounds) << name;
    for (std::size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(saved.at(name)[i], values[i], std::abs(values[i]) / 256) << name;
      const auto bits = std::bit_cast<std::uint32_t>(saved.at(name)[i]);
      EXPECT_EQ(rounds ? bits & 0xFFFFu : 0u, 0u) << name;
    }
  }
}

// The head's number of chunks changes no more than the last bits of sums.
TEST(EngineTest, HeadChunksChangeNothingButTheOrderOfSums) {
  std::vector<double> norms, losses;
  for (const std::int64_t chunks : {1, 2, 7, 32}) {
    Model model = make_model(tiny::config_of({.tied = true}));
    const auto communicator = make_self_communicator();
    EngineOptions options = options_for(Precision::fp32);
    options.strategy.head_chunks = chunks;
    Engine engine(model, options, *communicator);
    tiny::load_random(engine);
    losses.push_back(engine.train_micro_batch(random_batch(3, 131), 1));
    norms.push_back(engine.finish_accumulation(0).gradient_norm);
  }
  for (std::size_t i = 1; i < norms.size(); ++i) {
    EXPECT_NEAR(losses[i], losses[0], 1e-6 * losses[0]);
    EXPECT_NEAR(norms[i], norms[0], 1e-5 * norms[0]);
  }
}

}  // namespace
}  // namespace autoglm
