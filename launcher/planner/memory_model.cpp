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
// Shares of the optimizer on the host between which all others are found.
constexpr double kLittleOffload = 0.25, kMuchOffload = 0.75;

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

// The strategy without what the states do not depend on.
Strategy of_states(Strategy strategy, double offload_optimizer) {
  const Strategy plain;
  if (strategy.stage == 2) strategy.stage = 1;  // gradients are always sharded
  strategy.recompute = plain.recompute;
  strategy.recompute_layers = plain.recompute_layers;
  strategy.micro_batch = plain.micro_batch;
  strategy.head_chunks = plain.head_chunks;
  strategy.offload_activations = plain.offload_activations;
  strategy.offload_optimizer = offload_optimizer;
  return strategy;
}

// The strategy without what a step holds no bytes of beside the states, for a model of which so many layers recompute.
Strategy of_activations(Strategy strategy, std::int64_t num_recomputing, bool offloads) {
  const Strategy plain;
  strategy.stage = plain.stage;
  strategy.weights = plain.weights;
  strategy.master = plain.master;
  strategy.offload_optimizer = plain.offload_optimizer;
  strategy.bf16_gradients = plain.bf16_gradients;
  strategy.bf16_moments = plain.bf16_moments;
  strategy.reduce = plain.reduce;
  if (num_recomputing == 0) strategy.recompute = Recompute::none;
  strategy.recompute_layers = num_recomputing > 0 ? num_recomputing : plain.recompute_layers;
  strategy.offload_activations = offloads ? 1 : 0;
  return strategy;
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

const MemoryModel::States& MemoryModel::states(const Strategy& strategy, double offload_optimizer) {
  const Strategy key = of_states(strategy, offload_optimizer);
  const auto seen = states_.find(key);
  if (seen != states_.end()) return seen->second;
  const PhaseMemory built = rehearse_phases(request_for(key), true).front();
  return states_.emplace(key, States{built.device_peak, built.host_peak}).first->second;
}

// Beyond its buffers, which nothing and everything on the host do without, offloading moves bytes in
// proportion.
MemoryModel::States MemoryModel::states_of(const Strategy& strategy) {
  const double fraction = strategy.offload_optimizer;
  if (fraction == 0 || fraction == 1) return states(strategy, fraction);
  const States low = states(strategy, kLittleOffload);
  const States high = states(strategy, kMuchOffload);
  const double share = (fraction - kLittleOffload) / (kMuchOffload - kLittleOffload);
  return {between(low.device, high.device, share), between(low.host, high.host, share)};
}

MemoryModel::Activations MemoryModel::rehearse_activations(const Shallow& shallow) const {
  RehearsalRequest request = request_for(shallow.strategy);
  request.frozen.clear();
  request.world_size = 1;
  request.model.num_layers = shallow.num_layers;
  request.micro_batches = 2;
  const std::int64_t num_recomputing = std::max<std::int64_t>(0, shallow.strategy.recompute_layers);
  const std::int64_t num_others = shallow.num_layers - num_recomputing;
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
    result.saved_other = difference(after(shallow.num_layers), after(shallow.num_layers - 1));
  if (shallow.strategy.offload_activations > 0) {
    MemoryUse on_host = find(phases, EnginePhase::construction, 0).host_peak;
    add(result.host_recomputing, on_host, 1.0 / static_cast<double>(num_recomputing));
  }
  for (const PhaseMemory& one : phases) {
    Phase phase{one.phase, difference(one.device_peak, states)};
    const auto layer = static_cast<std::int64_t>(one.block);
    const bool in_layer = layer >= 1 && layer <= shallow.num_layers;
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
  const Shallow key{of_activations(strategy, num_recomputing, offloads), num_recomputing + num_others};
  const auto seen = activations_.find(key);
  if (seen != activations_.end()) return seen->second;
  return activations_.emplace(key, rehearse_activations(key)).first->second;
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
  const std::int64_t shallow_recomputing = std::min(recomputing, kShallowLayers);
  const std::int64_t shallow_others =
      std::max<std::int64_t>(std::min(others, kShallowLayers), recomputing == 0 ? 1 : 0);
  const Activations& shown = activations(strategy, shallow_recomputing, shallow_others, offloaded > 0);
  // Layers whose input stays on the device though some go to the host are priced as without offloading.
  const MemoryUse kept =
      offloaded > 0 && offloaded < recomputing
          ? activations(strategy, shallow_recomputing, shallow_others, false).saved_recomputing
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
