#include <chrono>
#include <numeric>

#include "scripts/gpu_check/run_training.h"

namespace autoglm {
namespace {

using nlohmann::json;

constexpr std::int64_t kMicroBatches = 2;

struct Curve {
  std::vector<double> losses, norms;
  std::uint64_t digest = 0;
  bool operator==(const Curve& other) const {
    return losses == other.losses && norms == other.norms && digest == other.digest;
  }
};

Curve train(const RunRequest& request, const Strategy& strategy, JobDevice& device) {
  Communicator& communicator = device.communicator();
  Model model = make_model(parse_model_config(request.config, "config"));
  EngineOptions options;
  options.device = device.device();
  options.precision = request.precision;
  options.row_length = request.row_length;
  options.strategy = strategy;
  Engine engine(model, options, communicator);
  load_random_weights(engine);
  MicroBatch batch(strategy.micro_batch, request.row_length, device.device());
  AdamWSettings settings;
  settings.weight_decay = 0.1;
  Curve curve;
  for (std::int64_t step = 1; step <= request.steps; ++step) {
    double loss = 0;
    for (std::int64_t i = 0; i < kMicroBatches; ++i) {
      // The same rows in every step: losses of different rows say nothing about learning.
      fill_micro_batch(batch, i, communicator.rank(), communicator.size(), model.config.vocabulary_size);
      loss += engine.train_micro_batch(batch, 0.02f, i + 1 == kMicroBatches);
    }
    const StepSums sums = engine.finish_accumulation(loss);
    curve.losses.push_back(sums.loss_sum);
    curve.norms.push_back(sums.gradient_norm);
    engine.optimizer_step(settings, 1e-2, step, clip_factor(sums.gradient_norm, 0.5));
  }
  curve.losses.push_back(engine.evaluate_micro_batch(batch));
  curve.digest = weights_digest(engine);
  if (engine.out_of_memory()) throw *engine.out_of_memory();
  return curve;
}

// Every legal combination over `start`; those that differ in most from each other come first.
std::vector<Strategy> all_strategies(const Strategy& start, Precision precision, std::int64_t layers) {
  std::vector<Strategy> strategies;
  const auto add = [&](Strategy strategy) {
    if (strategy_conflict(strategy, precision).empty()) strategies.push_back(strategy);
  };
  for (const auto& [level, recomputing] : {std::pair{Recompute::none, std::int64_t{-1}},
                                           {Recompute::full, -1},
                                           {Recompute::cheap, -1},
                                           {Recompute::full, layers / 2}}) {
    for (const double offload : {1.0, 0.37, 0.0}) {
      for (const WeightSourceKind weights :
           {WeightSourceKind::resident, WeightSourceKind::host, WeightSourceKind::peers}) {
        for (const MasterLayout master : {MasterLayout::split, MasterLayout::plain}) {
          for (int stage = 0; stage <= 3; ++stage) {
            Strategy strategy = start;
            strategy.stage = stage;
            strategy.recompute = level;
            strategy.recompute_layers = recomputing;
            strategy.offload_optimizer = offload;
            strategy.weights = weights;
            strategy.master = master;
            strategy.micro_batch = 2;
            strategy.head_chunks = 4;
            strategy.offload_activations = level == Recompute::full && stage % 2 == 1 ? 0.5 : 0;
            add(strategy);
          }
        }
      }
    }
  }
  // A walk with a stride that has no factor in common with the number, so that a short time sees all kinds.
  std::vector<Strategy> spread;
  const std::size_t count = strategies.size();
  std::size_t stride = count * 5 / 13;
  while (std::gcd(stride, count) != 1) ++stride;
  for (std::size_t i = 0; i < count; ++i) spread.push_back(strategies[i * stride % count]);
  return spread;
}

}  // namespace

json run_matrix(const RunRequest& request, JobDevice& device) {
  const auto start = std::chrono::steady_clock::now();
  Communicator& communicator = device.communicator();
  const std::int64_t layers = parse_model_config(request.config, "config").num_layers;
  Strategy plain = pinned_strategy(without_choices(request.pins), request.precision);
  plain.master = MasterLayout::plain;
  plain.micro_batch = 2;
  plain.head_chunks = 4;
  const Curve expected = train(request, plain, device);
  const Curve again = train(request, plain, device);
  const std::vector<Strategy> strategies = all_strategies(plain, request.precision, layers);
  json wrong = json::array();
  std::int64_t compared = 0;
  for (const Strategy& strategy : strategies) {
    // All ranks go by rank 0's clock.
    double seconds[] = {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    if (communicator.rank() != 0) seconds[0] = 0;
    communicator.all_reduce(seconds, Event()).synchronize();
    if (seconds[0] > request.seconds) break;
    const Curve seen = train(request, strategy, device);
    ++compared;
    if (seen == expected) continue;
    wrong.push_back({{"strategy", describe_strategy(strategy)},
                     {"losses", seen.losses == expected.losses},
                     {"norms", seen.norms == expected.norms},
                     {"weights", seen.digest == expected.digest}});
  }
  return {
      {"device", device.name()},
      {"ranks", communicator.size()},
      {"strategies", strategies.size()},
      {"compared", compared},
      {"repeats", again == expected},
      {"learns", expected.losses.at(static_cast<std::size_t>(request.steps) - 1) < expected.losses.front()},
      {"losses", expected.losses},
      {"norms", expected.norms},
      {"digest", expected.digest},
      {"different", wrong}};
}

}  // namespace autoglm
