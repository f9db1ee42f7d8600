#include "launcher/planner/memory_model.h"

#include <c10/util/accumulate.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

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
  strategy.bf16_reduce = plain.bf16_reduce;
  return strategy;
}

// The strategy without what makes no difference to the bytes of a step beside the states, for a model of which
// so many layers recompute.
Strategy of_activations(Strategy strategy, std::int64_t num_recomputing, bool offloads) {
  const Strategy plain;
  strategy.stage = plain.stage;
  strategy.weights = plain.weights;
  strategy.master = plain.master;
  strategy.offload_optimizer = plain.offload_optimizer;
  strategy.bf16_gradients = plain.bf16_gradients;
  strategy.bf16_moments = plain.bf16_moments;
  strategy.reduce = plain.reduce;
  strategy.bf16_reduce = plain.bf16_reduce;
  if (num_recomputing == 0) strategy.recompute = Recompute::none;
  strategy.recompute_layers = num_recomputing > 0 ? num_recomputing : plain.recompute_layers;
  strategy.offload_activations = offloads ? 1 : 0;
  return strategy;
}

using Phases = std::vector<RehearsedPhase>;

Phases::const_iterator find(const Phases& phases, EnginePhase phase, std::size_t block) {
  return std::find_if(phases.begin(), phases.end(),
                      [&](const RehearsedPhase& one) { return one.phase == phase && one.block == block; });
}

const RehearsedPhase& phase_in(const Phases& phases, EnginePhase phase, std::size_t block) {
  const auto found = find(phases, phase, block);
  AUTOGLM_CHECK(found != phases.end(), "no phase {} of block {}", phase_name(phase), block);
  return *found;
}

// None where a phase never comes: nothing before the first trained layer has a backward pass.
WorkCount work_in(const Phases& phases, EnginePhase phase, std::size_t block) {
  const auto found = find(phases, phase, block);
  return found == phases.end() ? WorkCount() : found->work;
}

}  // namespace

MemoryModel::MemoryModel(MemoryQuestion question) : question_(std::move(question)) {
  question_.max_positions = std::max(question_.max_positions, question_.row_length);
  const Model model = make_model(request_for({}));
  kinds_ = layer_kinds(model);
  classes_ = layer_classes(model);
  first_reached_ = first_reached_layer(model);
  for (const LayerBlock* layer : model.layers()) {
    input_elements_.push_back(
        static_cast<double>(c10::multiply_integers(layer->stream_shape(1, question_.row_length))));
  }
}

RehearsalRequest MemoryModel::request_for(const Strategy& strategy) const {
  RehearsalRequest request;
  request.model = question_.model;
  request.frozen = question_.frozen;
  request.world_size = question_.world_size;
  request.target = question_.target;
  request.multiprocessors = question_.multiprocessors;
  request.options.precision = question_.precision;
  request.options.row_length = question_.row_length;
  request.options.max_positions = question_.max_positions;
  request.options.strategy = strategy;
  // Every job can save, when a signal asks for it.
  request.options.saves_states = true;
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

std::vector<PhaseWork> MemoryModel::rehearse_work(const Strategy& strategy,
                                                  std::int64_t micro_batches) const {
  RehearsalRequest request = request_for(strategy);
  request.micro_batches = micro_batches;
  return autoglm::rehearse_work(request);
}

const MemoryModel::States& MemoryModel::states(const Strategy& strategy, double offload_optimizer) {
  const Strategy key = of_states(strategy, offload_optimizer);
  const auto seen = states_.find(key);
  if (seen != states_.end()) return seen->second;
  const RehearsedPhase built = rehearse_phases(request_for(key), true).front();
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

const ShallowModel& MemoryModel::shallow_model(std::int64_t num_recomputing) {
  return shallow_models_.try_emplace(num_recomputing, classes_, num_recomputing).first->second;
}

MemoryModel::Activations MemoryModel::rehearse_activations(const RehearsalRequest& request,
                                                           const KeptLayers& layers) const {
  const Phases phases = rehearse_phases(request);
  const RehearsedPhase& built = phase_in(phases, EnginePhase::construction, 0);
  const Model model = make_model(request);
  const std::vector<std::size_t> places = model.places(BlockRole::layer);
  Activations result;
  result.host = built.host_peak;
  result.outer = {work_in(phases, EnginePhase::head, model.place(BlockRole::head)),
                  work_in(phases, EnginePhase::backward, model.place(BlockRole::embedding))};
  // The later layers of a group have others before them, beside which they can be seen.
  for (std::size_t i = 0; i < places.size(); ++i) {
    MemoryUse& saved = result.saved[layers.groups[i]];
    result.passes[layers.groups[i]] = {work_in(phases, EnginePhase::forward, places[i]),
                                       work_in(phases, EnginePhase::backward, places[i])};
    if (i == 0) continue;
    saved = difference(phase_in(phases, EnginePhase::forward, places[i]).device_after,
                       phase_in(phases, EnginePhase::forward, places[i - 1]).device_after);
  }
  for (const RehearsedPhase& one : phases) {
    Phase phase{one.phase, difference(one.device_peak, built.device_peak), {}};
    const auto place = std::find(places.begin(), places.end(), one.block);
    const bool passes = one.phase == EnginePhase::forward || one.phase == EnginePhase::backward;
    if (passes && place != places.end())
      phase.group = layers.groups[static_cast<std::size_t>(place - places.begin())];
    result.phases.push_back(phase);
  }
  return result;
}

const MemoryModel::Activations& MemoryModel::activations(const Strategy& strategy, const KeptLayers& layers,
                                                         bool offloads, bool all_trained) {
  const auto num_recomputing =
      std::count_if(layers.groups.begin(), layers.groups.end(), ShallowModel::recomputes);
  const Shallow key{of_activations(strategy, num_recomputing, offloads), all_trained, layers.groups};
  const auto seen = activations_.find(key);
  if (seen != activations_.end()) return seen->second;
  RehearsalRequest request = request_for(key.strategy);
  request.options.saves_states = false;  // what they are saved through is priced with the states
  if (all_trained) request.frozen.clear();
  request.world_size = 1;
  request.layers = layers.numbers;
  request.micro_batches = 2;
  return activations_.emplace(key, rehearse_activations(request, layers)).first->second;
}

// The inputs of the first offloaded layers beside those of all kept layers that recompute.
double MemoryModel::offloaded_share(const KeptLayers& layers, std::int64_t num_offloaded) const {
  double offloaded = 0, kept = 0;
  for (std::int64_t i = 0; i < num_offloaded; ++i)
    offloaded += input_elements_[static_cast<std::size_t>(first_reached_ + i)];
  for (std::size_t i = 0; i < layers.numbers.size(); ++i) {
    if (layers.numbers[i] >= first_reached_ && ShallowModel::recomputes(layers.groups[i]))
      kept += input_elements_[static_cast<std::size_t>(layers.numbers[i])];
  }
  return offloaded / kept;
}

MemoryPrice MemoryModel::price(const Strategy& strategy) {
  const std::int64_t layers = question_.model.num_layers;
  std::int64_t recomputing = strategy.recompute == Recompute::none ? 0
                             : strategy.recompute_layers < 0       ? layers
                                                             : std::min(strategy.recompute_layers, layers);
  if (recomputing <= first_reached_) recomputing = 0;  // nothing is recomputed without a backward pass
  const std::int64_t saving = std::max<std::int64_t>(0, recomputing - first_reached_);
  const std::int64_t offloaded = std::llround(strategy.offload_activations * static_cast<double>(saving));
  const ShallowModel& shallow = shallow_model(recomputing);
  const Activations& shown = activations(strategy, shallow.kept(), offloaded > 0);
  // Layers whose input stays on the device though some go to the host are priced as without offloading.
  const auto& staying =
      offloaded > 0 && offloaded < saving ? activations(strategy, shallow.kept(), false).saved : shown.saved;
  // What the layers left out before one keep.
  const auto unseen = [&](std::int64_t end) {
    MemoryUse use;
    for (const std::size_t group : shallow.groups()) {
      const std::int64_t count = shallow.left_out(group, end);
      const std::int64_t on_device =
          ShallowModel::recomputes(group)
              ? std::min(count, shallow.count(group, first_reached_ + offloaded, end))
              : 0;
      add(use, shown.saved.at(group), static_cast<double>(count - on_device));
      add(use, staying.at(group), static_cast<double>(on_device));
    }
    return use;
  };
  std::map<std::size_t, MemoryUse> unseen_in;
  for (const std::size_t group : shallow.groups()) unseen_in[group] = unseen(shallow.end_of(group));

  const States states = states_of(strategy);
  MemoryPrice price{states.device, states.host};
  for (const Phase& phase : shown.phases) {
    MemoryUse use = states.device;
    add(use, phase.device);
    if (phase.group) add(use, unseen_in.at(*phase.group));
    if (phase.phase == EnginePhase::head) add(use, unseen(layers));
    if (use.total > price.device.total) {
      price.device = use;
      price.device_phase = phase.phase;
    }
  }
  if (offloaded > 0) add(price.host, shown.host, offloaded_share(shallow.kept(), offloaded));
  return price;
}

const MemoryModel::Activations& MemoryModel::alone(std::int64_t layer, std::int64_t micro_batch,
                                                   Recompute level, std::int64_t head_chunks) {
  Strategy strategy;
  strategy.micro_batch = micro_batch;
  strategy.recompute = level;
  strategy.head_chunks = head_chunks;
  const std::size_t group = group_of(layer, level);
  return activations(strategy, {{layer, layer}, {group, group}}, false, !question_.frozen.empty());
}

std::size_t MemoryModel::group_of(std::int64_t layer, Recompute level) const {
  return ShallowModel::group(kinds_[static_cast<std::size_t>(layer)], level != Recompute::none);
}

std::int64_t MemoryModel::saved_bytes(std::int64_t layer, std::int64_t micro_batch, Recompute level) {
  return alone(layer, micro_batch, level).saved.at(group_of(layer, level)).total;
}

const PassWork& MemoryModel::layer_work(std::int64_t layer, std::int64_t micro_batch, Recompute level) {
  return alone(layer, micro_batch, level).passes.at(group_of(layer, level));
}

const OuterWork& MemoryModel::outer_work(std::int64_t micro_batch, std::int64_t head_chunks) {
  return alone(0, micro_batch, Recompute::none, head_chunks).outer;
}

}  // namespace autoglm
