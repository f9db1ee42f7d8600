#include "launcher/planner/memory_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

// Layers of one kind in a shallow rehearsal: the first has nothing before it, the last keeps what all keep.
constexpr std::int64_t kShallowLayers = 2;
constexpr int kOffloadQuarters = 4;

// to += factor * use.
void add(MemoryUse& to, const MemoryUse& use, double factor = 1) {
  const auto scaled = [&](std::int64_t bytes) { return std::llround(factor * static_cast<double>(bytes)); };
  to.total += scaled(use.total);
  for (std::size_t i = 0; i < to.by_category.size(); ++i) to.by_category[i] += scaled(use.by_category[i]);
}

MemoryUse difference(const MemoryUse& a, const MemoryUse& b) {
  MemoryUse result = a;
  add(result, b, -1);
  return result;
}

MemoryUse between(const MemoryUse& low, const MemoryUse& high, double share) {
  MemoryUse result = low;
  add(result, difference(high, low), share);
  return result;
}

// Whether the list names the parameter.
bool belongs_to(const Parameter& parameter, const std::vector<std::string>& names) {
  return std::find(names.begin(), names.end(), parameter.name()) != names.end();
}

// The first layer that a backward pass reaches.
std::int64_t first_trained_layer(const MemoryQuestion& question) {
  if (question.frozen.empty()) return 0;
  const Model model = make_model(question.model);
  const auto trains = [&](const Block& block) {
    return std::any_of(block.parameters().begin(), block.parameters().end(),
                       [&](const Parameter& one) { return !belongs_to(one, question.frozen); });
  };
  if (trains(*model.embedding)) return 0;
  const auto first = std::find_if(model.layers.begin(), model.layers.end(),
                                  [&](const auto& layer) { return trains(*layer); });
  return first - model.layers.begin();
}

const PhaseMemory& find(const std::vector<PhaseMemory>& phases, EnginePhase phase, std::size_t block) {
  const auto found = std::find_if(phases.begin(), phases.end(), [&](const PhaseMemory& one) {
    return one.phase == phase && one.block == block;
  });
  AUTOGLM_CHECK(found != phases.end(), "no phase {} of block {}", phase_name(phase), block);
  return *found;
}

}  // namespace

MemoryModel::MemoryModel(MemoryQuestion question)
    : question_(std::move(question)), first_trained_layer_(first_trained_layer(question_)) {
  question_.max_positions = std::max(question_.max_positions, question_.row_length);
}

RehearsalRequest MemoryModel::request_for(const Strategy& strategy) const {
  RehearsalRequest request;
  request.model = question_.model;
  request.frozen = question_.frozen;
  request.world_size = question_.world_size;
  request.target = question_.target;
  request.options.precision = question_.precision;
  request.options.row_length = question_.row_length;
  request.options.max_positions = question_.max_positions;
  request.options.strategy = strategy;
  return request;
}

MemoryStatistics MemoryModel::rehearse(const Strategy& strategy, std::int64_t micro_batches) const {
  RehearsalRequest request = request_for(strategy);
  request.micro_batches = std::min<std::int64_t>(micro_batches, 2);
  MemoryStatistics result = autoglm::rehearse(request);
  // Ranks hold the same, but for one thing: where whole states are cut between device and host, the last
  // rank's share of the gradients lies on the host and the first one's on the device.
  const bool cut = strategy.offload_optimizer > 0 && strategy.offload_optimizer < 1;
  if (cut && !strategy.shards_optimizer() && question_.world_size > 1) {
    request.rank = question_.world_size - 1;
    result.host = autoglm::rehearse(request).host;
  }
  return result;
}

const MemoryModel::States& MemoryModel::states(const Strategy& strategy, int offload_quarters) {
  const int sharding = strategy.stage == 2 ? 1 : strategy.stage;
  const StatesKey key{sharding,
                      static_cast<int>(strategy.weights),
                      static_cast<int>(strategy.master),
                      offload_quarters,
                      strategy.bf16_gradients,
                      strategy.bf16_moments,
                      static_cast<int>(strategy.reduce)};
  const auto seen = states_.find(key);
  if (seen != states_.end()) return seen->second;
  RehearsalRequest request = request_for(strategy);
  request.options.strategy.recompute = Recompute::none;
  request.options.strategy.recompute_layers = -1;
  request.options.strategy.offload_activations = 0;
  request.options.strategy.offload_optimizer = offload_quarters / static_cast<double>(kOffloadQuarters);
  const PhaseMemory built = rehearse_phases(request, true).front();
  return states_.emplace(key, States{built.device_peak, built.host_peak}).first->second;
}

// Beyond its buffers, which nothing and everything on the host do without, offloading moves bytes in
// proportion.
MemoryModel::States MemoryModel::states_of(const Strategy& strategy) {
  const double fraction = strategy.offload_optimizer;
  if (fraction == 0) return states(strategy, 0);
  if (fraction == 1) return states(strategy, kOffloadQuarters);
  const States low = states(strategy, 1);
  const States high = states(strategy, 3);
  const double share = (fraction * kOffloadQuarters - 1) / 2;
  return {between(low.device, high.device, share), between(low.host, high.host, share)};
}

MemoryModel::Activations MemoryModel::rehearse_activations(const Strategy& strategy,
                                                           std::int64_t num_recomputing,
                                                           std::int64_t num_others) const {
  RehearsalRequest request = request_for(strategy);
  request.frozen.clear();
  request.world_size = 1;
  request.model.num_layers = num_recomputing + num_others;
  request.micro_batches = 2;
  Strategy& shallow = request.options.strategy;
  Strategy plain;
  plain.micro_batch = strategy.micro_batch;
  plain.recompute = num_recomputing > 0 ? strategy.recompute : Recompute::none;
  plain.recompute_layers = num_recomputing > 0 ? num_recomputing : -1;
  plain.head_chunks = strategy.head_chunks;
  plain.offload_activations = strategy.offload_activations > 0 ? 1 : 0;
  shallow = plain;
  const std::vector<PhaseMemory> phases = rehearse_phases(request);
  const MemoryUse states = find(phases, EnginePhase::construction, 0).device_peak;

  Activations result;
  result.num_recomputing = num_recomputing;
  result.num_others = num_others;
  const auto after = [&](std::int64_t layer) {
    return find(phases, EnginePhase::forward, static_cast<std::size_t>(layer)).device_after;
  };
  if (num_recomputing > 1) result.saved_recomputing = difference(after(2), after(1));
  if (num_others > 1)
    result.saved_other =
        difference(after(num_recomputing + num_others), after(num_recomputing + num_others - 1));
  if (plain.offload_activations > 0) {
    MemoryUse on_host = find(phases, EnginePhase::construction, 0).host_peak;
    add(result.host_recomputing, on_host, 1.0 / static_cast<double>(num_recomputing));
  }
  for (const PhaseMemory& one : phases) {
    Phase phase{one.phase, difference(one.device_peak, states)};
    const auto layer = static_cast<std::int64_t>(one.block);
    const bool in_layer = layer >= 1 && layer <= request.model.num_layers;
    const bool trains = one.phase == EnginePhase::forward || one.phase == EnginePhase::backward;
    const bool is_head = one.phase == EnginePhase::head;
    phase.sees_recomputing = is_head || (trains && in_layer);
    phase.sees_others = is_head || (trains && in_layer && layer > num_recomputing);
    result.phases.push_back(phase);
  }
  return result;
}

const MemoryModel::Activations& MemoryModel::activations(const Strategy& strategy,
                                                         std::int64_t num_recomputing,
                                                         std::int64_t num_others, bool offloads) {
  const ActivationsKey key{strategy.micro_batch, static_cast<int>(strategy.recompute), num_recomputing,
                           num_others, strategy.head_chunks};
  const auto seen = activations_.find({key, offloads});
  if (seen != activations_.end()) return seen->second;
  Strategy asked = strategy;
  asked.offload_activations = offloads ? 1 : 0;
  return activations_
      .emplace(std::pair(key, offloads), rehearse_activations(asked, num_recomputing, num_others))
      .first->second;
}

MemoryPrice MemoryModel::price(const Strategy& strategy) {
  const std::int64_t layers = num_trained_layers();
  const bool recomputes = strategy.recompute != Recompute::none;
  const std::int64_t wanted =
      strategy.recompute_layers < 0 ? question_.model.num_layers : strategy.recompute_layers;
  const std::int64_t recomputing =
      recomputes ? std::clamp<std::int64_t>(wanted - first_trained_layer_, 0, layers) : 0;
  const std::int64_t others = layers - recomputing;
  const States states = states_of(strategy);
  const std::int64_t offloaded =
      std::llround(strategy.offload_activations * static_cast<double>(recomputing));
  Strategy asked = strategy;
  if (recomputing == 0) asked.recompute = Recompute::none;
  const std::int64_t shallow_recomputing = std::min(recomputing, kShallowLayers);
  const std::int64_t shallow_others =
      std::max<std::int64_t>(std::min(others, kShallowLayers), recomputing == 0 ? 1 : 0);
  const Activations& shown = activations(asked, shallow_recomputing, shallow_others, offloaded > 0);
  // Layers whose input stays on the device though some go to the host are priced as without offloading.
  const MemoryUse kept =
      offloaded > 0 && offloaded < recomputing
          ? activations(asked, shallow_recomputing, shallow_others, false).saved_recomputing
          : shown.saved_recomputing;

  MemoryPrice price;
  price.device_phase = EnginePhase::construction;
  price.device = states.device;
  for (const Phase& phase : shown.phases) {
    MemoryUse use = states.device;
    add(use, phase.device);
    if (phase.sees_recomputing) {
      const std::int64_t unseen = recomputing - shown.num_recomputing;
      const std::int64_t on_device = std::min(unseen, recomputing - offloaded);
      if (unseen > 0) add(use, shown.saved_recomputing, static_cast<double>(unseen - on_device));
      if (unseen > 0) add(use, kept, static_cast<double>(on_device));
    }
    if (phase.sees_others) add(use, shown.saved_other, static_cast<double>(others - shown.num_others));
    if (use.total > price.device.total) {
      price.device = use;
      price.device_phase = phase.phase;
    }
  }
  price.host = states.host;
  add(price.host, shown.host_recomputing, static_cast<double>(offloaded));
  return price;
}

std::int64_t MemoryModel::saved_bytes(std::int64_t micro_batch, Recompute level) {
  Strategy strategy;
  strategy.micro_batch = micro_batch;
  strategy.recompute = level;
  const bool recomputes = level != Recompute::none;
  const Activations& shown =
      activations(strategy, recomputes ? kShallowLayers : 0, recomputes ? 0 : kShallowLayers, false);
  return recomputes ? shown.saved_recomputing.total : shown.saved_other.total;
}

}  // namespace autoglm
