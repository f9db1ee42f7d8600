#include "launcher/planner/probe.h"

#include <algorithm>
#include <chrono>

#include "launcher/planner/work_seconds.h"
#include "sharding/agree.h"

namespace autoglm {
namespace {

// Of the time of a layer, that products must make up before it says how fast they are.
constexpr double kLeastProducts = 0.5;
// Few rows take about as long as their weights, unless they take very long.
constexpr std::int64_t kFewRows = 1024;
constexpr double kVeryLong = 0.1;

ProbeTimes slowest_of_ranks(Communicator& communicator, ProbeTimes slowest) {
  for (const ProbeTimes& one : gather(communicator, slowest)) {
    slowest.layer = std::max(slowest.layer, one.layer);
    slowest.optimizer = std::max(slowest.optimizer, one.optimizer);
    slowest.host_optimizer = std::min(slowest.host_optimizer, one.host_optimizer);
    slowest.gathers = std::min(slowest.gathers, one.gathers);
    slowest.reductions = std::min(slowest.reductions, one.reductions);
    slowest.host_link = std::min(slowest.host_link, one.host_link);
    slowest.out_of_memory |= one.out_of_memory;
  }
  return slowest;
}

double operations_of(const LayerWork& layer, const MemoryQuestion& question, const ProbeTimes& times) {
  const double part = static_cast<double>(times.row_length) / static_cast<double>(question.row_length);
  return 3 * static_cast<double>(times.micro_batch * times.row_length) *
         (2 * layer.elements + part * layer.attention_flops_per_token);
}

// Beside products, and attention, a layer moves bytes and starts kernels.
double product_flops(const ProbeTimes& times, const LayerWork& layer, const MemoryQuestion& question,
                     const Rates& rates) {
  const std::int64_t tokens = times.micro_batch * times.row_length;
  if (tokens < kFewRows && times.layer < kVeryLong) return rates.matrix_flops;
  MemoryModel memory(question);
  const PassWork& work = memory.layer_work(layer.number, times.micro_batch, Recompute::none);
  WorkCount both = work.forward;
  both.add(work.backward);
  double operations = 0, others = 0;
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    if (!on_device(kind)) continue;
    operations += static_cast<double>(both[kind].operations);
    others += static_cast<double>(both[kind].launches) * rates.launch_overhead;
    if (both[kind].operations == 0) others += seconds_of(kind, both[kind], tokens, rates);
  }
  const double products = times.layer - others;
  if (products < kLeastProducts * times.layer) return rates.matrix_flops;
  const auto rows = static_cast<double>(tokens);
  return operations / products * (rows + rates.matrix_half_tokens) / rows;
}

}  // namespace

Rates explain(const ProbeTimes& times, const MemoryQuestion& question, const Rates& guess) {
  Rates rates = guess;
  const bool cuda = question.target == ops::Target::cuda;
  const ModelWork work = work_of(question);
  const LayerWork& layer = work.commonest_layer();
  rates.memory_bandwidth = kAdamWBytes * layer.parameters / std::max(times.optimizer, 1e-9);
  if (!cuda) rates.host_memory_bandwidth = rates.memory_bandwidth;
  if (times.host_optimizer > 0) rates.host_memory_bandwidth = times.host_optimizer;
  if (times.host_link > 0) rates.host_link_bandwidth = times.host_link;
  if (times.reductions > 0) rates.message_bandwidth = times.reductions;
  if (times.reductions > 0) rates.link_bandwidth = times.gathers > 0 ? times.gathers : times.reductions;
  rates.matrix_flops = cuda ? product_flops(times, layer, question, rates)
                            : operations_of(layer, question, times) / std::max(times.layer, 1e-9);
  return rates;
}

ProbeResult probe_rates(const MemoryQuestion& question, at::Device device, const Rates& guess,
                        Communicator& communicator) {
  const auto start = std::chrono::steady_clock::now();
  const ModelWork work = work_of(question);
  const LayerWork& layer = work.commonest_layer();
  ProbeTimes times = probe_shape(layer, question.row_length, device.is_cuda());
  time_layer(question, layer.number, device, communicator, times);
  time_collectives(communicator, device, times);
  time_host(communicator, device, times);
  times = slowest_of_ranks(communicator, times);
  ProbeResult result;
  result.complete = !times.out_of_memory;
  result.rates = result.complete ? explain(times, question, guess) : guess;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace autoglm
