// Every strategy gives the same losses, gradient norms and weights as plain data parallelism, to the bit.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "sharding/mpi/mpi_communicator.h"
#include "tests/trainer/engine/engine_test_main.h"
#include "tests/trainer/engine/rehearsal_checks.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/streams.h"

namespace autoglm {

static MpiSession* session = nullptr;

namespace {

constexpr std::int64_t kLength = 24;
constexpr std::int64_t kMicroBatches = 2;

struct Training {
  tiny::Shape shape;
  Precision precision = Precision::bf16;
  Strategy strategy;
  std::int64_t steps = 10;
  std::vector<std::string> frozen = {};
  std::map<std::int64_t, Strategy> changes = {};  // before these steps
  // In every step one rank's allocation of a random number fails, once.
  std::optional<std::uint32_t> failures = {};
};

struct Curve {
  std::vector<double> losses, norms;
  tiny::Weights weights;
  double exposed_seconds = 0;
  int num_void_steps = 0;
};

// "opt-last" has its norms behind the sums, and projections around the layers.
tiny::Shape model_of(const std::string& name) {
  tiny::Shape shape;
  shape.family = name == "opt-last" ? "opt" : name;
  shape.tied = name != "glm4";
  shape.norm_first = name != "opt-last";
  if (!shape.norm_first) shape.embedding = 14;
  shape.layers = 4;
  shape.hidden = 20;
  shape.heads = 3;
  shape.key_heads = 1;
  shape.head_dim = 12;
  shape.ffn = 30;
  return shape;
}

// The rows that a rank sees in a step do not depend on the strategy. In every third step one of its
// micro-batches has nothing to learn.
MicroBatch batch_for(std::int64_t step, std::int64_t micro_batch, const Training& training, int rank) {
  std::mt19937 random(static_cast<std::uint32_t>(1000 * step + 100 * micro_batch + rank));
  MicroBatch batch(1, kLength, at::kCPU);
  const double supervised = step % 3 == 1 && micro_batch == rank % kMicroBatches ? 0 : 0.6;
  const tiny::Row row = tiny::random_row(random, kLength, training.shape.vocabulary, supervised);
  tiny::fill(batch, std::span(&row, 1));
  return batch;
}

std::vector<MicroBatch> batches_for(std::int64_t step, const Training& training, int rank) {
  std::vector<MicroBatch> batches;
  for (std::int64_t i = 0; i < kMicroBatches; ++i) batches.push_back(batch_for(step, i, training, rank));
  return batches;
}

StepSums accumulate(Engine& engine, const std::vector<MicroBatch>& batches) {
  double loss = 0;
  for (const MicroBatch& batch : batches)
    loss += engine.train_micro_batch(batch, 0.02f, &batch == &batches.back());
  return engine.finish_accumulation(loss);
}

// Lets an allocation of a step fail on one rank; the step is run again.
StepSums accumulate_with_failure(Engine& engine, const Training& training, std::int64_t step,
                                 Communicator& communicator, Curve& curve) {
  std::mt19937 random(*training.failures + static_cast<std::uint32_t>(step));
  const std::int64_t allocation = 1 + static_cast<std::int64_t>(random() % 160);
  const int rank = static_cast<int>(random() % static_cast<std::uint32_t>(communicator.size()));
  const std::vector<MicroBatch> batches = batches_for(step, training, communicator.rank());
  if (communicator.rank() == rank) job_memory().device().fail_allocation(allocation);
  const StepSums sums = accumulate(engine, batches);
  job_memory().device().fail_allocation(0);
  if (sums.votes.out_of_memory == 0) return sums;
  EXPECT_EQ(sums.votes.out_of_memory, 1);
  ++curve.num_void_steps;
  engine.discard_gradients();
  if (curve.num_void_steps % 2 == 0) engine.change_strategy(engine.options().strategy);
  return accumulate(engine, batches);
}

Curve train(const Training& training, Communicator& communicator) {
  Model model = make_model(tiny::config_of(training.shape));
  for (Parameter* parameter : model.parameters()) {
    for (const std::string& prefix : training.frozen) {
      if (parameter->name().rfind(prefix, 0) == 0) parameter->set_trainable(false);
    }
  }
  EngineOptions options;
  options.precision = training.precision;
  options.row_length = kLength;
  options.strategy = training.strategy;
  Engine engine(model, options, communicator);
  tiny::load_random(engine, 1, 0.15f);
  Curve curve;
  AdamWSettings settings;
  settings.weight_decay = 0.1;
  for (std::int64_t step = 1; step <= training.steps; ++step) {
    if (const auto change = training.changes.find(step); change != training.changes.end())
      engine.change_strategy(change->second);
    const StepSums sums = training.failures
                              ? accumulate_with_failure(engine, training, step, communicator, curve)
                              : accumulate(engine, batches_for(step, training, communicator.rank()));
    curve.losses.push_back(sums.loss_sum);
    curve.norms.push_back(sums.gradient_norm);
    curve.exposed_seconds += sums.exposed_seconds;
    engine.optimizer_step(settings, 1e-2, step, clip_factor(sums.gradient_norm, 0.5));
    if (step == training.steps / 2) {
      curve.losses.push_back(engine.evaluate_micro_batch(batch_for(0, 0, training, communicator.rank())));
    }
  }
  curve.losses.push_back(engine.evaluate_micro_batch(batch_for(0, 0, training, communicator.rank())));
  curve.weights = tiny::weights_of(engine);
  return curve;
}

// Names what differs; one failure says enough.
::testing::AssertionResult same_bits(const Curve& expected, const Curve& actual) {
  if (expected.losses != actual.losses) return ::testing::AssertionFailure() << "losses differ";
  if (expected.norms != actual.norms) return ::testing::AssertionFailure() << "gradient norms differ";
  if (expected.weights.size() != actual.weights.size())
    return ::testing::AssertionFailure() << "other parameters";
  for (const auto& [name, values] : expected.weights) {
    const std::int64_t count = tiny::differing_bits(values, actual.weights.at(name));
    if (count != 0) return ::testing::AssertionFailure() << count << " values of " << name << " differ";
  }
  return ::testing::AssertionSuccess();
}

struct RecomputeChoice {
  Recompute level;
  std::int64_t layers;
};

// All legal combinations of stage, recompute, master, offload and weights.
std::vector<Strategy> all_strategies(Precision precision) {
  std::vector<Strategy> all;
  for (const int stage : {0, 1, 2, 3}) {
    for (const RecomputeChoice recompute :
         {RecomputeChoice{Recompute::none, -1}, RecomputeChoice{Recompute::cheap, -1},
          RecomputeChoice{Recompute::full, -1}, RecomputeChoice{Recompute::full, 2}}) {
      for (const MasterLayout master : {MasterLayout::plain, MasterLayout::split}) {
        for (const double offload : {0.0, 0.37, 1.0}) {
          for (const WeightSourceKind weights :
               {WeightSourceKind::resident, WeightSourceKind::peers, WeightSourceKind::host}) {
            Strategy strategy;
            strategy.stage = stage;
            strategy.recompute = recompute.level;
            strategy.recompute_layers = recompute.layers;
            strategy.master = master;
            strategy.offload_optimizer = offload;
            strategy.weights = weights;
            strategy.head_chunks = 2;
            if (recompute.level == Recompute::full) strategy.offload_activations = offload;
            if (strategy_conflict(strategy, precision).empty()) all.push_back(strategy);
          }
        }
      }
    }
  }
  return all;
}

Strategy plain_training() {
  Strategy strategy;
  strategy.head_chunks = 2;
  return strategy;
}

class StrategiesTest : public ::testing::Test {
 protected:
  StrategiesTest() : ranks_(make_mpi_communicator(*session)) {
    // So that the parts of these small blocks take several copies, the last a shorter one.
    set_transfer_elements(1000);
  }
  ~StrategiesTest() override { set_transfer_elements({}); }

  enum class Choice { all, some, few };

  // Trains strategies, with `change` applied, and compares them with plain training so changed: every one,
  // every fifth but on two ranks, or every eleventh.
  void compare(Training training, Choice choice, const std::function<void(Strategy&)>& change = {}) {
    const std::vector<Strategy> strategies = all_strategies(training.precision);
    const std::size_t stride = choice == Choice::few                            ? 11
                               : choice == Choice::some && session->size() != 2 ? 5
                                                                                : 1;
    training.strategy = plain_training();
    if (change) change(training.strategy);
    const Curve expected = train(training, *ranks_);
    Training untrained = training;
    untrained.steps = 0;
    EXPECT_FALSE(same_bits(expected, train(untrained, *ranks_)));
    if (!expected.norms.empty()) {
      EXPECT_GT(*std::max_element(expected.norms.begin(), expected.norms.end()), 0.5)
          << "clipping had nothing to do";
    }
    int compared = 0;
    for (std::size_t i = 0; i < strategies.size(); i += stride) {
      training.strategy = strategies[i];
      if (change) change(training.strategy);
      if (!strategy_conflict(training.strategy, training.precision).empty()) continue;
      SCOPED_TRACE(describe_strategy(training.strategy));
      EXPECT_TRUE(same_bits(expected, train(training, *ranks_)));
      ++compared;
    }
    if (session->rank() == 0) {
      fmt::print("{} {}, {} ranks: {} strategies compared with plain training over {} steps\n",
                 training.shape.family, precision_name(training.precision), session->size(), compared,
                 training.steps);
    }
  }

  std::unique_ptr<Communicator> ranks_;
};

TEST_F(StrategiesTest, GiveTheSameBitsInBf16) {
  // Many ranks on few cores take their time: AUTOGLM_WHOLE_MATRIX=1 gives them ten steps as well.
  const bool whole = session->size() <= 2 || std::getenv("AUTOGLM_WHOLE_MATRIX") != nullptr;
  for (const char* family : {"llama", "glm4"}) {
    compare({.shape = model_of(family), .strategy = {}, .steps = whole ? 10 : 4}, Choice::all);
  }
}

TEST_F(StrategiesTest, GiveTheSameBitsInFp32) {
  for (const char* family : {"llama", "glm4"}) {
    compare({.shape = model_of(family), .precision = Precision::fp32, .strategy = {}, .steps = 4},
            Choice::some);
  }
}

TEST_F(StrategiesTest, GiveTheSameBitsForOpt) {
  for (const char* name : {"opt", "opt-last"}) {
    for (const Precision precision : {Precision::bf16, Precision::fp32}) {
      compare({.shape = model_of(name), .precision = precision, .strategy = {}, .steps = 3}, Choice::few);
    }
  }
  compare(
      {.shape = model_of("opt-last"),
       .strategy = {},
       .steps = 3,
       .frozen = {"model.decoder.embed_positions", "model.decoder.project_in", "model.decoder.layers.1.fc1"}},
      Choice::few);
}

TEST_F(StrategiesTest, GiveTheSameBitsWhateverTheTiming) {
  for (const unsigned seed : {1u, 2u}) {
    set_host_stream_delay(300, seed + static_cast<unsigned>(session->rank()));
    compare({.shape = model_of(seed == 1 ? "llama" : "glm4"), .strategy = {}, .steps = 2}, Choice::some);
  }
  set_host_stream_delay(0, 0);
}

TEST_F(StrategiesTest, GiveTheSameBitsWithFrozenParameters) {
  const std::vector<std::string> kFrozen[] = {{"model.embed_tokens", "model.layers.0.", "model.layers.2.mlp"},
                                              {"model.layers.1."},
                                              {"model.layers.3.", "model.norm"}};
  for (const std::vector<std::string>& frozen : kFrozen) {
    const char* family = frozen.size() == 1 ? "glm4" : "llama";
    compare({.shape = model_of(family), .strategy = {}, .steps = 3, .frozen = frozen}, Choice::some);
  }
}

// What changes last bits changes them alike in every strategy, and only the last ones.
TEST_F(StrategiesTest, OptInsGiveTheSameBitsAmongThemselves) {
  const std::function<void(Strategy&)> kChanges[] = {
      [](Strategy& s) { s.bf16_gradients = true; }, [](Strategy& s) { s.bf16_moments = true; },
      [](Strategy& s) { s.reduce = ReduceMode::step; }, [](Strategy& s) { s.bf16_reduce = true; }};
  Training training{.shape = model_of("llama"), .strategy = plain_training(), .steps = 6};
  const Curve exact = train(training, *ranks_);
  for (const auto& change : kChanges) {
    training.strategy = plain_training();
    change(training.strategy);
    const Curve changed = train(training, *ranks_);
    const bool sends_bf16 = training.strategy.bf16_reduce;
    if (training.strategy.reduce != ReduceMode::step) {
      EXPECT_EQ(same_bits(exact, changed), sends_bf16 && session->size() == 1);
    }
    EXPECT_NEAR(changed.losses.back(), exact.losses.back(), 0.01 * exact.losses.back());
    compare({.shape = model_of("llama"), .strategy = {}, .steps = 4}, Choice::some, change);
  }
}

TEST_F(StrategiesTest, AllocateWhatWasRehearsed) {
  install_job_memory();
  std::mt19937 random(static_cast<std::uint32_t>(session->rank()));
  int number = 0;
  for (const Strategy& strategy : all_strategies(Precision::bf16)) {
    // Every third: the combinations differ in what the others show as well.
    if (number++ % 3 != 0) continue;
    tiny::StepShape shape;
    const char* models[] = {"llama", "glm4", "opt", "opt-last"};
    shape.model = model_of(models[number / 3 % 4]);
    shape.strategy = strategy;
    shape.row_length = 40;
    shape.strategy.bf16_gradients = number % 5 == 0;
    shape.strategy.bf16_moments = number % 7 == 0;
    shape.strategy.bf16_reduce = number % 2 == 0;
    if (strategy.stage < 2 && !shape.strategy.bf16_gradients && number % 4 == 0) {
      shape.strategy.reduce = ReduceMode::step;
    }
    SCOPED_TRACE(tiny::describe(shape));
    const MemoryStatistics rehearsal = tiny::rehearsed(shape, session->rank(), session->size());
    tiny::expect_rehearsal_holds(rehearsal, tiny::measured(shape, *ranks_, random));
  }
}

// Further sharded, recomputed and offloaded from one step to the next, the training goes on as if nothing
// happened.
TEST_F(StrategiesTest, MayChangeBetweenSteps) {
  for (const std::string family : {"llama", "glm4"}) {
    for (const Precision precision : {Precision::bf16, Precision::fp32}) {
      Training plain{model_of(family), precision, {.head_chunks = 4}};
      if (precision == Precision::bf16) plain.strategy.master = MasterLayout::split;
      const Curve expected = train(plain, *ranks_);
      Training changing = plain;
      Strategy next = plain.strategy;
      next.recompute = Recompute::full;
      next.offload_activations = 0.5;
      changing.changes[2] = next;
      next.stage = 1;
      next.offload_optimizer = 0.2;
      changing.changes[3] = next;
      next.offload_optimizer = 0.6;
      next.weights = WeightSourceKind::host;
      changing.changes[5] = next;
      next.stage = 3;
      changing.changes[6] = next;
      next.offload_optimizer = 1;
      next.recompute_layers = 2;
      changing.changes[9] = next;
      EXPECT_TRUE(same_bits(expected, train(changing, *ranks_)))
          << family << " " << precision_name(precision);
      changing.changes = {{4, plain.strategy}};
      changing.changes[4].stage = 3;
      changing.changes[4].weights = WeightSourceKind::peers;
      EXPECT_TRUE(same_bits(expected, train(changing, *ranks_)))
          << family << " " << precision_name(precision);
    }
  }
}

// Wherever in a step one rank runs out of memory, all ranks learn of it, and the step run again is the one it
// would have been.
TEST_F(StrategiesTest, RunningOutOfMemoryVoidsOneStepAndChangesNoBits) {
  Training training{model_of("llama"), Precision::bf16, {.head_chunks = 4}};
  training.strategy.master = MasterLayout::split;
  training.steps = 12;
  const Curve expected = train(training, *ranks_);
  int num_void_steps = 0;
  std::uint32_t seed = 1;
  for (const int stage : {0, 2, 3}) {
    for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
      for (const double offload : {0.0, 0.37}) {
        Training failing = training;
        failing.strategy.stage = stage;
        failing.strategy.weights = stage == 3 ? WeightSourceKind::peers : WeightSourceKind::resident;
        failing.strategy.recompute = level;
        failing.strategy.offload_optimizer = offload;
        if (level == Recompute::full) failing.strategy.offload_activations = offload;
        failing.failures = seed += 100;
        const Curve curve = train(failing, *ranks_);
        EXPECT_TRUE(same_bits(expected, curve)) << describe_strategy(failing.strategy);
        num_void_steps += curve.num_void_steps;
      }
    }
  }
  EXPECT_GE(num_void_steps, 100);
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::testing::run_engine_tests(argc, argv, autoglm::session);
}
