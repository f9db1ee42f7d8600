#include "launcher/planner/probe.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>

#include "sharding/agree.h"
#include "sharding/memory/category.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/engine/engine.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A layer's passes should take a second or two at most on a slow device.
constexpr double kProbeFlops = 2e11;
constexpr std::int64_t kMostProbeTokens = 512;
constexpr std::int64_t kProbeVocabulary = 64;
constexpr std::int64_t kMessageElements = std::int64_t{2} << 20;
constexpr int kMessages = 4;

// One layer behind a vocabulary that weighs nothing.
Model one_layer(ModelConfig config, std::int64_t number) {
  config.vocabulary_size = std::min(config.vocabulary_size, kProbeVocabulary);
  return make_model(config, {&number, 1});
}

struct Times {
  double forward = 0, backward = 0, optimizer = 0;  // of a layer
  double ring = 0;                                  // of a collective
  bool out_of_memory = false;
};

std::int64_t probe_tokens(const LayerWork& layer, std::int64_t row_length) {
  const auto tokens = static_cast<std::int64_t>(kProbeFlops / (6 * layer.elements));
  return std::clamp<std::int64_t>(tokens, std::min<std::int64_t>(row_length, 16),
                                  std::min(row_length, kMostProbeTokens));
}

// The first micro-batch touches memory and fills caches; the second one counts.
Times time_layer(const MemoryQuestion& question, std::int64_t number, at::Device device,
                 std::int64_t tokens) {
  Model model = one_layer(question.model, number);
  const std::size_t place = model.place(BlockRole::layer);
  const auto alone = make_self_communicator();
  Times times;
  Clock::time_point last = Clock::now();
  EngineOptions options;
  options.device = device;
  options.precision = question.precision;
  options.strategy.master = leanest_master(question.precision);
  options.row_length = tokens;
  options.on_phase = [&](EnginePhase phase, std::size_t block) {
    const double seconds = since(last);
    if (phase == EnginePhase::forward && block == place) times.forward = seconds;
    if (phase == EnginePhase::backward && block == place) times.backward = seconds;
    if (phase == EnginePhase::optimizer) times.optimizer = seconds;
    last = Clock::now();
  };
  Engine engine(model, options, *alone);
  engine.state_access().load([](const std::string&, std::int64_t, std::span<float> values) {
    std::fill(values.begin(), values.end(), 0.01F);
  });
  const MicroBatch batch(1, tokens, device);
  for (int i = 1; i <= 2; ++i) {
    last = Clock::now();
    engine.train_micro_batch(batch, 1);
    engine.finish_accumulation(0);
    last = Clock::now();
    engine.optimizer_step({}, 1e-5, i, 1);
  }
  if (engine.out_of_memory()) throw *engine.out_of_memory();
  return times;
}

double time_ring(Communicator& communicator, at::Device device) {
  if (communicator.size() == 1) return 0;
  const std::int64_t count = kMessageElements / communicator.size();
  // On a CPU any memory will do, and the device's pool may be small.
  const PoolScope pool(device.is_cpu() ? MemoryPool::host : MemoryPool::device);
  const CategoryScope category(MemoryCategory::staging);
  at::Tensor whole =
      at::zeros({count * communicator.size()}, at::TensorOptions().dtype(at::kFloat).device(device));
  auto* values = static_cast<float*>(whole.mutable_data_ptr());
  const auto reduce = [&] {
    communicator.reduce_scatter(values, values + count * communicator.rank(), count, Event()).synchronize();
  };
  reduce();
  communicator.barrier().synchronize();
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kMessages; ++i) reduce();
  return since(start) / kMessages;
}

Times slowest_of_ranks(Communicator& communicator, Times slowest) {
  for (const Times& one : gather(communicator, slowest)) {
    slowest.forward = std::max(slowest.forward, one.forward);
    slowest.backward = std::max(slowest.backward, one.backward);
    slowest.optimizer = std::max(slowest.optimizer, one.optimizer);
    slowest.ring = std::max(slowest.ring, one.ring);
    slowest.out_of_memory |= one.out_of_memory;
  }
  return slowest;
}

}  // namespace

ProbeResult probe_rates(const MemoryQuestion& question, at::Device device, const Rates& guess,
                        Communicator& communicator) {
  const Clock::time_point start = Clock::now();
  ProbeResult result;
  result.rates = guess;
  const ModelWork work = work_of(question);
  const LayerWork& layer = work.commonest_layer();
  const std::int64_t tokens = probe_tokens(layer, question.row_length);
  Times times;
  try {
    times = time_layer(question, layer.number, device, tokens);
  } catch (const OutOfMemory&) {
    times.out_of_memory = true;
  }
  times.ring = time_ring(communicator, device);
  const Times slowest = slowest_of_ranks(communicator, times);
  result.seconds = since(start);
  if (slowest.out_of_memory) {
    result.complete = false;
    return result;
  }
  // One rank's work of one layer with a short row and no head to speak of.
  const auto parameters = layer.parameters;
  const double optimizer_bytes = kAdamWBytes * parameters;
  result.rates.memory_bandwidth = optimizer_bytes / std::max(slowest.optimizer, 1e-9);
  result.rates.host_memory_bandwidth =
      device.is_cpu() ? result.rates.memory_bandwidth : guess.host_memory_bandwidth;
  const double shorter = static_cast<double>(tokens) / static_cast<double>(question.row_length);
  const double flops =
      3 * static_cast<double>(tokens) * (2 * layer.elements + shorter * layer.attention_flops_per_token);
  result.rates.matrix_flops = flops / std::max(slowest.forward + slowest.backward, 1e-9);
  if (times.ring > 0) {
    const double bytes =
        4.0 * static_cast<double>(kMessageElements) * (communicator.size() - 1) / communicator.size();
    result.rates.link_bandwidth = bytes / std::max(slowest.ring - guess.link_latency, 1e-9);
  }
  return result;
}

}  // namespace autoglm
