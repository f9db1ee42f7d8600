// How good the planner's choices are: for a dozen settings, the step time of the strategy it chose beside
// every other feasible one of a grid, in interleaved runs. Called by choices.sh on 1 and 2 ranks.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/math.h"
#include "launcher/planner/probe.h"
#include "launcher/planner/search.h"
#include "sharding/memory/job_memory.h"
#include "sharding/mpi/mpi_communicator.h"
#include "sharding/mpi/mpi_session.h"

namespace autoglm {
namespace {

struct Setting {
  const char* family;
  std::int64_t layers, hidden, feed_forward, vocabulary, length, global_batch;
  double memory;  // share of what the plainest strategy needs
};

constexpr Setting kSettings[] = {
    {"llama", 6, 192, 512, 2000, 128, 8, 2.0},  {"llama", 6, 192, 512, 2000, 128, 8, 0.8},
    {"llama", 6, 192, 512, 2000, 128, 8, 0.6},  {"glm4", 8, 160, 448, 1000, 256, 4, 2.0},
    {"glm4", 8, 160, 448, 1000, 256, 4, 0.7},   {"llama", 4, 320, 896, 4000, 64, 16, 2.0},
    {"llama", 4, 320, 896, 4000, 64, 16, 0.75}, {"glm4", 4, 256, 768, 8000, 128, 6, 2.0},
};

ModelConfig config_of(const Setting& setting) {
  ModelConfig config;
  config.model_type = setting.family;
  config.hidden_size = setting.hidden;
  config.num_layers = setting.layers;
  config.head_dim = 32;
  config.num_heads = setting.hidden / config.head_dim;
  config.num_key_heads = config.num_heads % 2 == 0 ? config.num_heads / 2 : config.num_heads;
  config.intermediate_size = setting.feed_forward;
  config.vocabulary_size = setting.vocabulary;
  config.max_positions = 4096;
  config.tied_embeddings = true;
  const bool glm4 = std::string(setting.family) == "glm4";
  const std::int64_t pairs = glm4 ? config.head_dim / 4 : config.head_dim / 2;
  ops::RotarySpec rotary;
  for (std::int64_t i = 0; i < pairs; ++i)
    rotary.inverse_frequencies.push_back(
        static_cast<float>(std::pow(1e4, -static_cast<double>(i) / static_cast<double>(pairs))));
  rotary.interleaved = glm4;
  config.rotary = {rotary};
  return config;
}

MemoryQuestion question_of(const Setting& setting, int ranks) {
  MemoryQuestion question;
  question.model = config_of(setting);
  question.row_length = setting.length;
  question.world_size = ranks;
  return question;
}

// A strategy's engine and its batch. Each is built for two steps and taken down again: all of them then live
// in the same pages, while engines kept side by side were seen to differ by 14 % between two of the same
// strategy.
class Trainer {
 public:
  Trainer(const Setting& setting, const Candidate& candidate, Communicator& communicator)
      : candidate_(candidate), communicator_(communicator), model_(make_model(config_of(setting))) {
    EngineOptions options;
    options.saves_states = true;  // as plans count with it
    options.strategy = candidate.strategy;
    options.row_length = setting.length;
    engine_ = std::make_unique<Engine>(model_, options, communicator);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-0.04F, 0.04F);
    engine_->state_access().load([&](const std::string&, std::int64_t, std::span<float> values) {
      for (float& value : values) value = uniform(random);
    });
    batch_ = std::make_unique<MicroBatch>(candidate.strategy.micro_batch, setting.length, at::kCPU);
    fill(setting);
  }

  // Seconds of one optimizer step, from all ranks' start to the last one's end.
  double step() {
    communicator_.barrier().synchronize();
    const auto start = std::chrono::steady_clock::now();
    double loss = 0;
    for (std::int64_t i = 0; i < candidate_.num_micro_batches; ++i)
      loss += engine_->train_micro_batch(*batch_, 1e-3F);
    engine_->finish_accumulation(loss);
    engine_->optimizer_step({}, 1e-5, ++steps_, 1);
    communicator_.barrier().synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  void fill(const Setting& setting) {
    std::mt19937 random(7);
    const auto length = static_cast<std::size_t>(setting.length);
    std::vector<std::int32_t> ids(length), targets(length), positions(length);
    for (std::int64_t row = 0; row < batch_->rows.batch; ++row) {
      for (std::size_t i = 0; i < length; ++i) {
        ids[i] = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(setting.vocabulary));
        targets[i] = static_cast<std::int32_t>(random() % static_cast<std::uint32_t>(setting.vocabulary));
        positions[i] = static_cast<std::int32_t>(i);
      }
      batch_->set_row(row, ids, targets, positions, std::vector<std::int32_t>{0});
    }
  }

  Candidate candidate_;
  Communicator& communicator_;
  Model model_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<MicroBatch> batch_;
  std::int64_t steps_ = 0;
};

// One strategy that is timed.
struct Contestant {
  Candidate candidate;
  std::vector<double> seconds;

  double median() const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

// A step of every contestant still in the race, in an order of the round's own. The step before it, which
// touches the engine's memory for the first time, does not count.
void run_round(const Setting& setting, int round, std::vector<Contestant>& contestants,
               Communicator& communicator) {
  std::vector<std::size_t> order(contestants.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<unsigned>(round)));
  for (const std::size_t index : order) {
    Trainer trainer(setting, contestants[index].candidate, communicator);
    trainer.step();
    double seconds = trainer.step();
    communicator.all_reduce({&seconds, 1}, {}).synchronize();  // the ranks must agree on who is dropped
    contestants[index].seconds.push_back(seconds / communicator.size());
  }
}

// After this many rounds a strategy that is this much slower than the best is not measured further.
constexpr int kRoundsForAll = 3;
constexpr double kHopeless = 1.25;

// The two instances of the choice stay in front.
void drop_the_hopeless(std::vector<Contestant>& contestants) {
  double best = contestants.front().median();
  for (const Contestant& one : contestants) best = std::min(best, one.median());
  contestants.erase(std::remove_if(contestants.begin() + 2, contestants.end(),
                                   [&](const Contestant& one) { return one.median() > kHopeless * best; }),
                    contestants.end());
}

std::string describe(const Candidate& candidate) {
  return fmt::format("micro-batch {}, {}", candidate.strategy.micro_batch,
                     describe_strategy(candidate.strategy));
}

// The grid, small enough to be run: no partial recompute but in half the layers.
std::vector<Candidate> grid(Search& search, const StrategySpace& space) {
  std::vector<Candidate> list;
  for (const Strategy& one : enumerate_strategies(space, kDefaultHeadChunks)) {
    const bool whole = one.recompute_layers < 0 || one.recompute_layers == space.num_layers / 2;
    if (one.master != MasterLayout::split || !whole) continue;
    const Candidate candidate = search.judge(one);
    if (candidate.fits()) list.push_back(candidate);
  }
  return list;
}

// The planner's choice for one setting against everything that fits. Returns whether it is good enough.
bool judge_choice(const Setting& setting, Communicator& communicator, int rounds) {
  const MemoryQuestion question = question_of(setting, communicator.size());
  MemoryModel memory(question);
  const ProbeResult probe = probe_rates(question, at::kCPU, guessed_cpu_rates(), communicator);
  Strategy plainest;
  plainest.master = MasterLayout::split;
  plainest.micro_batch = divide_up(setting.global_batch, communicator.size());
  MemoryBudget budget;
  budget.shared = true;
  budget.device =
      static_cast<std::int64_t>(setting.memory * static_cast<double>(memory.price(plainest).device.total));
  Search search(memory, probe.rates, {}, setting.global_batch, budget);
  const std::optional<Plan> plan = search.run();
  if (!plan) {
    if (communicator.rank() == 0) fmt::print("{}: nothing fits in {} bytes\n", setting.family, budget.device);
    return false;
  }
  StrategySpace space;
  space.world_size = communicator.size();
  space.num_layers = setting.layers;
  space.rows_per_rank = plainest.micro_batch;
  space.may_offload = false;
  std::vector<Contestant> contestants(2, Contestant{plan->chosen, {}});
  for (const Candidate& one : grid(search, space)) contestants.push_back({one, {}});
  const std::size_t num_strategies = contestants.size() - 2;
  run_round(setting, 0, contestants, communicator);
  for (Contestant& one : contestants) one.seconds.clear();
  for (int round = 1; round <= rounds; ++round) {
    run_round(setting, round, contestants, communicator);
    if (round == kRoundsForAll) drop_the_hopeless(contestants);
  }
  const Contestant& chosen = contestants[0];
  double spread = 1;
  for (std::size_t i = 0; i < chosen.seconds.size(); ++i) {
    const double ratio = chosen.seconds[i] / contestants[1].seconds[i];
    spread = std::max({spread, ratio, 1 / ratio});
  }
  const auto best = std::min_element(contestants.begin(), contestants.end(),
                                     [](const auto& a, const auto& b) { return a.median() < b.median(); });
  const double regret = chosen.median() / best->median() - 1;
  const bool met = regret <= 0.05 || 1 + regret <= spread;
  if (communicator.rank() == 0) {
    fmt::print(
        "| {} ranks, {} {} x {}, {} rows of {}, {:.0f} MB | {} | {:.1f} | {:.1f} | {} | {:.1f} | {} | "
        "{:+.1f} % | {:.2f} | {} |\n",
        communicator.size(), setting.family, setting.layers, setting.hidden, setting.global_batch,
        setting.length, static_cast<double>(budget.device) / 1e6, describe(chosen.candidate),
        1e3 * chosen.median(), 1e3 * chosen.candidate.time.total(), describe(best->candidate),
        1e3 * best->median(), num_strategies, 100 * regret, spread,
        met ? (regret <= 0.05 ? "met" : "within the spread") : "MISSED");
    std::fflush(stdout);
  }
  return met;
}

int run(int argc, char** argv) {
  MpiSession session;
  install_job_memory();
  const auto communicator = make_mpi_communicator(session);
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 7;
  if (rounds < 1) fail(ExitCode::usage, "usage: bench_choices [ROUNDS], a number of at least 1");
  bool met = true;
  for (const Setting& setting : kSettings) met &= judge_choice(setting, *communicator, rounds);
  return met ? 0 : 1;
}

}  // namespace
}  // namespace autoglm

int main(int argc, char** argv) {
  return autoglm::run(argc, argv);
}
