#include "launcher/planner/probe_times.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "base/math.h"
#include "sharding/agree.h"
#include "sharding/memory/category.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/engine/engine.h"
#include "trainer/states/device_work.h"
#include "trainer/states/streams.h"

namespace autoglm {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A layer's passes on the CPU.
constexpr double kProbeFlops = 2e11;
constexpr std::int64_t kMostCpuTokens = 512;
constexpr std::int64_t kCudaTokens = 4096;
constexpr std::int64_t kProbeVocabulary = 64;
constexpr int kRepeats = 5;
// Of repeating.
constexpr double kMostSeconds = 2;
constexpr std::int64_t kCpuMessage = std::int64_t{8} << 20, kCudaMessage = std::int64_t{256} << 20;
constexpr std::int64_t kHostElements = std::int64_t{8} << 20;

// One layer behind a vocabulary that weighs nothing.
Model one_layer(ModelConfig config, std::int64_t number) {
  config.vocabulary_size = std::min(config.vocabulary_size, kProbeVocabulary);
  return make_model(config, {&number, 1});
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One layer, which trains.
class LayerTimer {
 public:
  LayerTimer(const MemoryQuestion& question, std::int64_t layer, at::Device device, const ProbeTimes& shape)
      : model_(one_layer(question.model, layer)), alone_(make_self_communicator()) {
    EngineOptions options;
    options.device = device;
    options.precision = question.precision;
    options.strategy.master = leanest_master(question.precision);
    options.strategy.micro_batch = shape.micro_batch;
    options.row_length = shape.row_length;
    options.on_phase = [this](EnginePhase phase, std::size_t block) { end_phase(phase, block); };
    engine_.emplace(model_, options, *alone_);
    engine_->state_access().load([](const std::string&, std::int64_t, std::span<float> values) {
      std::fill(values.begin(), values.end(), 0.01F);
    });
  }

  // Seconds of the layer's passes and of its optimizer, the medians of so many steps.
  std::pair<double, double> run(const MicroBatch& batch, int steps) {
    std::vector<double> layers, optimizers;
    for (int i = 0; i < steps; ++i) {
      layer_ = 0;
      last_ = Clock::now();
      engine_->train_micro_batch(batch, 1);
      engine_->finish_accumulation(0);
      last_ = Clock::now();
      engine_->optimizer_step({}, 1e-5, ++steps_, 1);
      layers.push_back(layer_);
      optimizers.push_back(optimizer_);
    }
    if (engine_->out_of_memory()) throw *engine_->out_of_memory();
    return {median(layers), median(optimizers)};
  }

 private:
  void end_phase(EnginePhase phase, std::size_t block) {
    const double seconds = since(last_);
    const bool passes = phase == EnginePhase::forward || phase == EnginePhase::backward;
    if (passes && block == model_.place(BlockRole::layer)) layer_ += seconds;
    if (phase == EnginePhase::optimizer) optimizer_ = seconds;
    last_ = Clock::now();
  }

  Model model_;
  std::unique_ptr<Communicator> alone_;
  Clock::time_point last_ = Clock::now();
  double layer_ = 0, optimizer_ = 0;
  std::int64_t steps_ = 0;
  std::optional<Engine> engine_;
};

// Seconds of a collective, which the ranks repeat as often as each other: not where once is long.
double time_of(Communicator& communicator, const std::function<Event()>& run) {
  std::vector<double> seconds;
  const auto run_once = [&] {
    communicator.barrier().synchronize();
    const Clock::time_point start = Clock::now();
    run().synchronize();
    return since(start);
  };
  const bool is_long = most(communicator, run_once()) > kMostSeconds / 20;
  for (int i = 0; i < (is_long ? 1 : kRepeats); ++i) seconds.push_back(run_once());
  return median(seconds);
}

at::Tensor floats(std::int64_t count, MemoryPool pool, at::Device device) {
  const PoolScope scope(pool);
  const CategoryScope category(MemoryCategory::staging);
  at::Tensor zeros = at::zeros({count}, at::TensorOptions().dtype(at::kFloat).device(device));
  if (device.is_cuda()) make_device_compute_stream(device)->synchronize();  // which has filled them
  return zeros;
}

// Whether every rank could make what it needs. Collective.
bool all_made(Communicator& communicator, const std::function<void()>& make) {
  const bool made = !run_within_memory(make);
  return least(communicator, made ? 1 : 0) == 1;
}

}  // namespace

ProbeTimes probe_shape(const LayerWork& layer, std::int64_t row_length, bool cuda) {
  ProbeTimes times;
  if (cuda) {
    times.row_length = row_length;
    times.micro_batch = divide_up(kCudaTokens, row_length);
    return times;
  }
  const auto tokens = static_cast<std::int64_t>(kProbeFlops / (6 * layer.elements));
  times.row_length = std::clamp<std::int64_t>(tokens, std::min<std::int64_t>(row_length, 16),
                                              std::min(row_length, kMostCpuTokens));
  return times;
}

void time_layer(const MemoryQuestion& question, std::int64_t layer, at::Device device,
                Communicator& communicator, ProbeTimes& times) {
  std::optional<LayerTimer> timer;
  const auto unless_full = [&](const std::function<void()>& run) {
    if (!times.out_of_memory) times.out_of_memory = run_within_memory(run).has_value();
  };
  // The first step touches memory, loads kernels and fills caches.
  ProbeTimes brief = times;
  brief.micro_batch = 1;
  brief.row_length = std::min(times.row_length, kMostCpuTokens);
  unless_full([&] {
    timer.emplace(question, layer, device, times);
    const MicroBatch batch(1, brief.row_length, device);
    timer->run(batch, 1);
    std::tie(brief.layer, brief.optimizer) = timer->run(batch, 1);
  });
  const auto ratio = static_cast<double>(times.micro_batch * times.row_length) /
                     static_cast<double>(brief.micro_batch * brief.row_length);
  const double once = most(communicator, brief.layer);
  if (!device.is_cuda() || ratio * once > kMostSeconds) {
    brief.out_of_memory = times.out_of_memory;
    times = brief;
  }
  if (!device.is_cuda() || kRepeats * once > kMostSeconds) return;
  unless_full([&] {
    const MicroBatch batch(times.micro_batch, times.row_length, device);
    timer->run(batch, 1);
    std::tie(times.layer, times.optimizer) = timer->run(batch, kRepeats);
  });
}

void time_collectives(Communicator& communicator, at::Device device, ProbeTimes& times) {
  const int size = communicator.size();
  if (size == 1) return;
  const std::int64_t message = device.is_cpu() ? kCpuMessage : kCudaMessage;
  const std::int64_t count = message / static_cast<std::int64_t>(sizeof(float)) / size;
  at::Tensor whole;
  // On a CPU any memory will do, and the device's pool may be small.
  const MemoryPool pool = device.is_cpu() ? MemoryPool::host : MemoryPool::device;
  if (!all_made(communicator, [&] { whole = floats(count * size, pool, device); })) return;
  auto* const values = static_cast<float*>(whole.mutable_data_ptr());
  float* const mine = values + count * communicator.rank();
  const double sent = static_cast<double>(count * (size - 1)) * sizeof(float);
  times.reductions =
      sent / time_of(communicator, [&] { return communicator.reduce_scatter(values, mine, count, Event()); });
  if (device.is_cpu()) return;
  times.gathers = sent / time_of(communicator, [&] {
                    return communicator.all_gather(mine, values, count * sizeof(float), Event());
                  });
}

void time_host(Communicator& communicator, at::Device device, ProbeTimes& times) {
  if (!device.is_cuda()) return;
  at::Tensor here, there, weights, moment1, moment2;
  const bool made = all_made(communicator, [&] {
    here = floats(kHostElements, MemoryPool::device, device);
    for (at::Tensor* one : {&there, &weights, &moment1, &moment2})
      *one = floats(kHostElements, MemoryPool::host, at::kCPU);
  });
  if (!made) return;
  const std::unique_ptr<Stream> copies = make_device_transfer_stream(device);
  const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
    return time_of(communicator, [&] {
      queue_copy(*copies, to, 0, from, 0, kHostElements);
      return copies->record();
    });
  };
  const double slower = std::max(copy(there, here), copy(here, there));
  times.host_link = static_cast<double>(kHostElements) * sizeof(float) / slower;

  AdamWSlice slice;
  slice.count = kHostElements;
  slice.gradient = there.mutable_data_ptr();
  slice.master = static_cast<float*>(weights.mutable_data_ptr());
  slice.moment1 = moment1.mutable_data_ptr();
  slice.moment2 = moment2.mutable_data_ptr();
  const AdamWUpdate update{adamw_factors({}, 1e-5, 1, 1, false)};
  times.host_optimizer = static_cast<double>(kHostElements) * kAdamWBytes / time_of(communicator, [&] {
                           adamw(slice, update);
                           return Event();
                         });
}

}  // namespace autoglm
