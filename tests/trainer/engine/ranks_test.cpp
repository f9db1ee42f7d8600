// Several ranks train as one rank does: the same loss curve, norms and weights for the same global batch. And
// what a rank's step allocates is what was rehearsed for it.
#include "sharding/mpi/mpi_communicator.h"
#include "tests/trainer/data/test_model.h"
#include "tests/trainer/engine/engine_test_main.h"
#include "tests/trainer/engine/rehearsal_checks.h"
#include "trainer/training_loop.h"

namespace autoglm {

static MpiSession* session = nullptr;

namespace {

constexpr std::int64_t kLength = 48;
constexpr double kTolerance = 1e-5;

// Conversations of random lengths over few letters.
std::string random_chats(std::uint32_t seed, int count) {
  std::mt19937 random(seed);
  const auto text = [&](std::size_t longest) {
    std::string letters;
    for (std::size_t left = 1 + random() % longest; left > 0; --left) {
      letters += letters.empty() || random() % 4 == 0
                     ? static_cast<char>('a' + random() % 8)
                     : static_cast<char>('a' + (letters.back() - 'a' + 1) % 8);
    }
    return letters;
  };
  std::string lines;
  for (int i = 0; i < count; ++i) {
    lines +=
        fmt::format(
            R"({{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "{}"}}]}})",
            text(8), text(24)) +
        "\n";
  }
  return lines;
}

struct Outcome {
  std::vector<StepReport> steps;
  std::vector<double> validation;
  tiny::Weights weights;
  bool empty_rank = false;  // in some step, some rank had no row at all
};

struct Stopped {};

// Keeps what the loop tells, and ends it after a step, if that is asked for.
class Recorder : public LoopListener {
 public:
  explicit Recorder(Outcome& outcome, std::int64_t last_step = 0)
      : outcome_(outcome), last_step_(last_step) {}

  void after_step(const StepReport& step) override {
    outcome_.steps.push_back(step);
    if (step.step == last_step_) throw Stopped();
  }
  void after_evaluation(std::int64_t, double loss) override { outcome_.validation.push_back(loss); }

 private:
  Outcome& outcome_;
  std::int64_t last_step_;
};

struct LoopCase {
  std::int64_t global_batch;
  std::int64_t micro_batch;
  bool packing;
  bool tied;
};

class RanksTest : public ::testing::Test {
 protected:
  RanksTest() : ranks_(make_mpi_communicator(*session)), alone_(make_self_communicator()) {}

  Dataset load(bool packing) {
    write_byte_model(folder_, all_special_tokens(), "<|endoftext|>");
    const Tokenizer tokenizer = Tokenizer::load(folder_.path());
    const ChatTemplate chat_template = ChatTemplate::select("glm4", folder_.path(), tokenizer);
    DataOptions options;
    options.files = {folder_.write("train.jsonl", random_chats(1, packing ? 40 : 16))};
    options.validation.file = folder_.write("validation.jsonl", random_chats(2, 5));
    options.sequence_length = kLength;
    options.packing = packing;
    return load_dataset(options, tokenizer, chat_template);
  }

  // With `stop`, in two loops: the second one goes on after so many steps.
  Outcome train(const Dataset& dataset, const LoopCase& chosen, Communicator& communicator,
                std::int64_t stop = 0) {
    tiny::Shape shape;
    shape.tied = chosen.tied;
    shape.layers = 2;
    shape.vocabulary = 300;
    Model model = make_model(tiny::config_of(shape));
    EngineOptions options;
    options.precision = Precision::fp32;
    options.row_length = kLength;
    options.strategy.micro_batch = chosen.micro_batch;
    options.strategy.recompute = Recompute::cheap;
    Engine engine(model, options, communicator);
    tiny::load_random(engine, 1, 0.1f);

    LoopOptions loop_options;
    loop_options.epochs = 3;
    loop_options.global_batch = chosen.global_batch;
    loop_options.evaluate_every = 3;
    loop_options.clip = 0.5;
    loop_options.adamw.weight_decay = 0.1;
    loop_options.schedule = {ScheduleKind::cosine, 3e-3, 2};
    const BatchPlan plan(count_rows(dataset, loop_options), chosen.global_batch, communicator.size(),
                         chosen.micro_batch);
    Outcome outcome;
    if (stop > 0) {
      Recorder recorder(outcome, stop);
      TrainingLoop first(engine, dataset, plan, communicator, loop_options, {&recorder});
      EXPECT_THROW(first.run(), Stopped);
    }
    Recorder recorder(outcome);
    TrainingLoop loop(engine, dataset, plan, communicator, loop_options, {&recorder});
    loop.run(stop);
    loop.evaluate(plan.num_steps());
    for (std::int64_t index = 0; index < plan.num_steps(); ++index) {
      outcome.empty_rank |= !plan.row_at(plan.step(index), 0, communicator.size() - 1, 0);
    }
    outcome.weights = tiny::weights_of(engine);
    return outcome;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Communicator> ranks_;
  std::unique_ptr<Communicator> alone_;
};

void expect_close(double expected, double actual, double tolerance, const std::string& what) {
  EXPECT_NEAR(actual, expected, tolerance * std::abs(expected)) << what;
}

// Relative distance of two vectors.
double distance(std::span<const float> a, std::span<const float> b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(a[i], 2);
  }
  return std::sqrt(difference / size);
}

void expect_same_training(const Outcome& expected, const Outcome& actual) {
  ASSERT_EQ(expected.steps.size(), actual.steps.size());
  double largest = 0;
  for (std::size_t i = 0; i < expected.steps.size(); ++i) {
    const StepReport &a = expected.steps[i], &b = actual.steps[i];
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.supervised_tokens, b.supervised_tokens);
    EXPECT_EQ(a.epoch, b.epoch);
    EXPECT_EQ(a.learning_rate, b.learning_rate);
    expect_close(*a.loss, *b.loss, kTolerance, fmt::format("loss of step {}", a.step));
    expect_close(*a.gradient_norm, *b.gradient_norm, 10 * kTolerance, fmt::format("norm of step {}", a.step));
    largest = std::max(largest, std::abs(*a.loss / *b.loss - 1));
  }
  ASSERT_EQ(expected.validation.size(), actual.validation.size());
  for (std::size_t i = 0; i < expected.validation.size(); ++i) {
    expect_close(expected.validation[i], actual.validation[i], kTolerance, fmt::format("validation {}", i));
  }
  double farthest = 0;
  for (const auto& [name, values] : expected.weights) {
    farthest = std::max(farthest, distance(values, actual.weights.at(name)));
  }
  EXPECT_LT(farthest, 1e-4);
  if (session->rank() == 0) {
    fmt::print(
        "{} steps, loss {:.4f} to {:.4f}: largest relative difference of a loss {:.2g}, of a weight tensor "
        "{:.2g}\n",
        expected.steps.size(), *expected.steps.front().loss, *expected.steps.back().loss, largest, farthest);
  }
}

TEST_F(RanksTest, GiveTheLossCurveOfOneRank) {
  const LoopCase cases[] = {
      {6, 1, true, false},
      {5, 2, true, true},    // divides by neither
      {5, 1, false, false},  // 16 rows an epoch: the last batch is one row, so other ranks have none
      {7, 3, false, true},
  };
  for (const LoopCase& chosen : cases) {
    SCOPED_TRACE(fmt::format("global batch {}, micro-batch {}, {} ranks", chosen.global_batch,
                             chosen.micro_batch, session->size()));
    const Dataset dataset = load(chosen.packing);
    const Outcome expected = train(dataset, chosen, *alone_);
    const Outcome actual = train(dataset, chosen, *ranks_);
    expect_same_training(expected, actual);
    EXPECT_LT(*expected.steps.back().loss, *expected.steps.front().loss - 0.3) << "nothing was learnt";
    EXPECT_GT(*expected.steps.front().gradient_norm, 0.5) << "clipping had nothing to do";
    const auto rows = static_cast<std::int64_t>(dataset.training_rows(0).num_rows());
    if (!chosen.packing) {
      EXPECT_NE(rows % chosen.global_batch, 0) << "no smaller batch";
    }
    if (!chosen.packing && chosen.micro_batch == 1) {
      EXPECT_EQ(actual.empty_rank, session->size() > 1);
    }
  }
}

// Every rank ends with the same weights, to the bit.
TEST_F(RanksTest, AgreeToTheBit) {
  const Dataset dataset = load(true);
  const Outcome mine = train(dataset, {5, 2, true, true}, *ranks_);
  for (const auto& [name, values] : mine.weights) {
    const auto all = ranks_->exchange(std::as_bytes(std::span(values)));
    for (const std::vector<std::byte>& other : all) EXPECT_TRUE(other == all.front()) << name;
  }
  double loss = *mine.steps.back().loss;
  const auto losses = ranks_->exchange(std::as_bytes(std::span(&loss, 1)));
  for (const std::vector<std::byte>& other : losses) EXPECT_TRUE(other == losses.front());
}

// In the first epoch and in a later one, after steps without an evaluation.
TEST_F(RanksTest, GoOnAfterAStepToTheBit) {
  const Dataset dataset = load(true);
  const LoopCase chosen{5, 2, true, false};
  const Outcome whole = train(dataset, chosen, *ranks_);
  const auto steps = static_cast<std::int64_t>(whole.steps.size());
  for (const std::int64_t stop : {std::int64_t{2}, steps - 1}) {
    SCOPED_TRACE(fmt::format("after {} of {} steps", stop, steps));
    const Outcome parts = train(dataset, chosen, *ranks_, stop);
    ASSERT_EQ(parts.steps.size(), whole.steps.size());
    for (std::size_t i = 0; i < whole.steps.size(); ++i) {
      EXPECT_EQ(parts.steps[i].step, whole.steps[i].step);
      EXPECT_EQ(parts.steps[i].epoch, whole.steps[i].epoch);
      EXPECT_EQ(parts.steps[i].learning_rate, whole.steps[i].learning_rate);
      EXPECT_EQ(parts.steps[i].loss, whole.steps[i].loss);
      EXPECT_EQ(parts.steps[i].gradient_norm, whole.steps[i].gradient_norm);
    }
    EXPECT_EQ(parts.validation, whole.validation);
    EXPECT_EQ(parts.weights, whole.weights);
  }
}

// Micro-batches driven by hand: some whole micro-batches, on one rank or on all, supervise nothing.
TEST_F(RanksTest, NeedNotAllHaveSomethingToSupervise) {
  constexpr std::int64_t kMicroBatches = 3;
  const auto step = [&](Communicator& communicator) {
    Model model = make_model(tiny::config_of({.tied = true}));
    EngineOptions options;
    options.precision = Precision::fp32;
    options.row_length = kLength;
    Engine engine(model, options, communicator);
    tiny::load_random(engine);
    std::mt19937 random(5);
    std::vector<tiny::Row> rows;
    std::int64_t supervised = 0;
    for (std::int64_t i = 0; i < kMicroBatches * session->size(); ++i) {
      const bool silent = i / session->size() == 1 || i % session->size() == session->size() - 1;
      rows.push_back(tiny::random_row(random, kLength, 131, silent && i > 0 ? 0 : 0.5));
      supervised += rows.back().num_supervised();
    }
    EXPECT_GT(supervised, 0);
    MicroBatch batch(1, kLength, at::kCPU);
    double loss = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (static_cast<int>(i) % communicator.size() != communicator.rank()) continue;
      tiny::fill(batch, std::span(&rows[i], 1));
      loss += engine.train_micro_batch(batch, 1.0f / static_cast<float>(supervised));
    }
    StepSums sums = engine.finish_accumulation(loss);
    sums.loss_sum /= static_cast<double>(supervised);
    return sums;
  };
  const StepSums expected = step(*alone_), actual = step(*ranks_);
  expect_close(expected.loss_sum, actual.loss_sum, kTolerance, "loss");
  expect_close(expected.gradient_norm, actual.gradient_norm, kTolerance, "norm");
}

TEST_F(RanksTest, AllocateWhatWasRehearsed) {
  std::mt19937 random(static_cast<std::uint32_t>(session->rank()));
  for (const char* family : {"llama", "glm4"}) {
    for (const bool tied : {false, true}) {
      for (const Recompute level : {Recompute::none, Recompute::cheap, Recompute::full}) {
        tiny::StepShape shape;
        shape.model.family = family;
        shape.model.tied = tied;
        shape.model.head_dim = 12;
        shape.precision = tied ? Precision::bf16 : Precision::fp32;
        shape.strategy.recompute = level;
        shape.strategy.recompute_layers = family == std::string("llama") ? 2 : -1;
        shape.strategy.micro_batch = tied ? 1 : 2;
        SCOPED_TRACE(tiny::describe(shape));
        const MemoryStatistics rehearsal = tiny::rehearsed(shape, session->rank(), session->size());
        tiny::expect_rehearsal_holds(rehearsal, tiny::measured(shape, *ranks_, random));
      }
    }
  }
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::testing::run_engine_tests(argc, argv, autoglm::session);
}
