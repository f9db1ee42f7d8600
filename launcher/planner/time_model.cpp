#include "launcher/planner/time_model.h"

#include <algorithm>
#include <limits>

#include "launcher/planner/work_seconds.h"
#include "trainer/models/model.h"

namespace autoglm {
namespace {

// Elementwise passes over what a layer saves: written and read in the forward pass, read and answered with
// gradients in the backward pass.
constexpr double kForwardPasses = 2;
constexpr double kBackwardPasses = 3;
// Written in fp32.
constexpr double kGradientBytes = 4;
constexpr double kKernelsOfAPass = 25;
// Logits are written, read for the maximum and the sum, and replaced by their gradient, in fp32.
constexpr double kHeadBytesPerLogit = 16;

}  // namespace

ModelWork work_of(const MemoryQuestion& question) {
  const Model model = make_model(question.model);
  ModelWork work;
  const auto matrices = [](const Block& block) {
    double elements = 0;
    for (const Parameter& parameter : block.parameters()) {
      if (parameter.spec().shape.size() == 2)
        elements += static_cast<double>(parameter.spec().num_elements());
    }
    return elements;
  };
  const ModelConfig& config = question.model;
  const std::vector<LayerBlock*> layers = model.layers();
  work.kinds = layer_kinds(model);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (work.kinds[i] < work.layers.size()) continue;
    LayerWork& layer = work.layers.emplace_back();
    layer.number = static_cast<std::int64_t>(i);
    layer.count = static_cast<double>(std::count(work.kinds.begin(), work.kinds.end(), work.kinds[i]));
    layer.elements = matrices(*layers[i]);
    for (const Parameter& parameter : layers[i]->parameters())
      layer.parameters += static_cast<double>(parameter.spec().num_elements());
    // Scores and their product with the values, each 2 operations, over half a row on average.
    layer.attention_flops_per_token = 2.0 * static_cast<double>(question.row_length) *
                                      static_cast<double>(config.num_heads) *
                                      static_cast<double>(config.head_dim);
  }
  work.embedding_elements = matrices(model.embedding());
  work.tied = config.tied_embeddings;
  const ops::Head& head = model.head().head;
  work.head_elements = static_cast<double>(head.weight->spec().num_elements());
  if (head.projection != nullptr)
    work.head_elements += static_cast<double>(head.projection->spec().num_elements());
  work.num_parameters = static_cast<double>(model.num_parameters());
  return work;
}

const LayerWork& ModelWork::commonest_layer() const {
  return *std::max_element(layers.begin(), layers.end(),
                           [](const LayerWork& a, const LayerWork& b) { return a.count < b.count; });
}

double ModelWork::flops_per_token() const {
  double matrices = 0, attention = 0;
  for (const LayerWork& layer : layers) {
    matrices += layer.count * layer.elements;
    attention += 3 * layer.count * layer.attention_flops_per_token;
  }
  return 6 * (matrices + head_elements) + attention;
}

TimeModel::TimeModel(MemoryModel& memory, const Rates& rates)
    : memory_(memory), rates_(rates), work_(work_of(memory.question())) {}

const TimeModel::Pass& TimeModel::pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level) {
  const std::tuple key(layer.number, micro_batch, level);
  const auto seen = passes_.find(key);
  if (seen != passes_.end()) return seen->second;
  const Pass made =
      counts() ? counted_pass(layer, micro_batch, level) : estimated_pass(layer, micro_batch, level);
  return passes_.emplace(key, made).first->second;
}

// The last of two layers is the first in the backward pass: no gradients of others are added up in its time.
TimeModel::Pass TimeModel::counted_pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level) {
  const PassWork& work = memory_.layer_work(layer.number, micro_batch, level);
  const std::int64_t tokens = tokens_of(micro_batch);
  return {device_seconds(work.forward, tokens, rates_), device_seconds(work.backward, tokens, rates_)};
}

TimeModel::Pass TimeModel::estimated_pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level) {
  const std::int64_t tokens = tokens_of(micro_batch);
  const double products = static_cast<double>(tokens) *
                          (2 * layer.elements + layer.attention_flops_per_token) /
                          rates_.product_speed(tokens);
  const auto saved_at = [&](Recompute kept) {
    return static_cast<double>(memory_.saved_bytes(layer.number, micro_batch, kept)) /
           rates_.memory_bandwidth;
  };
  const double saved = saved_at(Recompute::none);
  const auto width = static_cast<double>(working_bytes(memory_.question().precision));
  const double weights = layer.parameters * width / rates_.memory_bandwidth;
  const double gradients = layer.parameters * 2 * kGradientBytes / rates_.memory_bandwidth;
  const double overhead = kKernelsOfAPass * rates_.launch_overhead;
  Pass pass;
  pass.forward = products + kForwardPasses * saved + weights + overhead;
  pass.backward = 2 * products + kBackwardPasses * saved + weights + gradients + overhead;
  if (level == Recompute::full) pass.backward += pass.forward;
  // What is not kept is read for and written again, one elementwise pass.
  if (level == Recompute::cheap) pass.backward += 3 * (saved - saved_at(Recompute::cheap));
  return pass;
}

double TimeModel::head_seconds(std::int64_t micro_batch, std::int64_t head_chunks) {
  const auto [seen, is_new] = heads_.try_emplace({micro_batch, head_chunks}, 0);
  if (is_new) {
    seen->second =
        counts() ? counted_head_seconds(micro_batch, head_chunks) : estimated_head_seconds(micro_batch);
  }
  return seen->second;
}

// With the embedding's backward pass, in which layers' gradients are added up besides.
double TimeModel::counted_head_seconds(std::int64_t micro_batch, std::int64_t head_chunks) {
  OuterWork work = memory_.outer_work(micro_batch, head_chunks);
  const std::int64_t tokens = tokens_of(micro_batch);
  work.embedding.leave_out(WorkKind::gradients);
  return device_seconds(work.head, tokens, rates_) + device_seconds(work.embedding, tokens, rates_) +
         kGradientBytes * work_.embedding_elements / rates_.memory_bandwidth;
}

double TimeModel::estimated_head_seconds(std::int64_t micro_batch) {
  const std::int64_t tokens = tokens_of(micro_batch);
  const double logits =
      static_cast<double>(tokens) * static_cast<double>(memory_.question().model.vocabulary_size);
  return 6 * static_cast<double>(tokens) * work_.head_elements / rates_.product_speed(tokens) +
         (kHeadBytesPerLogit * logits + 10 * work_.head_elements) / rates_.memory_bandwidth;
}

std::vector<TimeModel::Passes> TimeModel::passes_of(const Strategy& strategy) {
  const auto all = static_cast<std::int64_t>(work_.kinds.size());
  const std::int64_t first = strategy.recompute == Recompute::none ? 0
                             : strategy.recompute_layers < 0       ? all
                                                                   : std::min(strategy.recompute_layers, all);
  std::vector<Passes> passes;
  for (std::size_t kind = 0; kind < work_.layers.size(); ++kind) {
    const LayerWork& layer = work_.layers[kind];
    passes.push_back(
        {pass(layer, strategy.micro_batch, Recompute::none),
         pass(layer, strategy.micro_batch, strategy.recompute),
         static_cast<double>(std::count(work_.kinds.begin(), work_.kinds.begin() + first, kind))});
  }
  return passes;
}

double TimeModel::layer_seconds(const LayerWork& layer, std::int64_t micro_batch) {
  const Pass& plain = pass(layer, micro_batch, Recompute::none);
  return plain.forward + plain.backward;
}

// A device's part of the gradients is added to the sums of the micro-batches before; the first one's sums are written
// where they stay, unless they are to be rounded, or there is no other rank to add with.
double TimeModel::accumulation_seconds(const Strategy& strategy, double num_micro_batches) const {
  const auto ranks = static_cast<double>(memory_.question().world_size);
  const double mine = work_.num_parameters / ranks * (1 - strategy.offload_optimizer);
  const double sum = strategy.bf16_gradients ? 2 : 4;
  const bool in_place = ranks > 1 && !strategy.bf16_gradients && strategy.offload_optimizer == 0;
  const double first = in_place ? 0 : kGradientBytes + sum;
  // Its buffers hold the sums themselves, to which products add.
  if (strategy.reduce == ReduceMode::step)
    return (mine * first + (num_micro_batches - 1) * work_.num_parameters * kGradientBytes) /
           rates_.memory_bandwidth;
  return mine * (first + (num_micro_batches - 1) * (kGradientBytes + 2 * sum)) / rates_.memory_bandwidth;
}

double TimeModel::ring_seconds(double bytes, double bandwidth) const {
  const int ranks = memory_.question().world_size;
  if (ranks == 1) return 0;
  return rates_.link_latency + bytes * (ranks - 1) / ranks / bandwidth;
}

// Of a reduce-scatter: in order it goes by messages, which move as many bytes as a ring; half as many between the
// GPUs of a host where parts are rounded.
double TimeModel::reduce_seconds(const Strategy& strategy, double bytes) const {
  const bool by_messages = strategy.reduce_scatter == ReduceScatter::ordered;
  const bool halved =
      strategy.bf16_reduce && memory_.question().target == ops::Target::cuda && !rates_.spans_hosts;
  return ring_seconds(halved ? bytes / 2 : bytes,
                      by_messages ? rates_.message_bandwidth : rates_.link_bandwidth);
}

// What is left of a movement that goes on beside compute.
double TimeModel::hidden(double moved, double compute) const {
  return moved - rates_.overlap * std::min(moved, compute);
}

// Block by block: what a layer moves hides behind the layer beside it. The first gather and the last
// reduction have nothing to hide behind.
double TimeModel::exposed_seconds(const Strategy& strategy, std::span<const Passes> passes, double head) {
  const auto width = static_cast<double>(working_bytes(memory_.question().precision));
  const bool uploads = strategy.weights == WeightSourceKind::host;
  const double share = strategy.shards_weights() ? 1.0 / memory_.question().world_size : 1.0;
  const auto fetch = [&](double elements) {
    const double uploaded = uploads ? share * width * elements / rates_.host_link_bandwidth : 0;
    const double gathered = strategy.shards_weights() ? gather_seconds(width * elements) : 0;
    return uploaded + gathered;
  };
  const auto reduce = [&](double elements) {
    if (strategy.reduce == ReduceMode::step) return 0.0;
    const double host_share = strategy.offload_optimizer / memory_.question().world_size;
    return reduce_seconds(strategy, 4 * elements) + host_share * 4 * elements / rates_.host_link_bandwidth;
  };
  const double outer = work_.embedding_elements + (work_.tied ? 0 : work_.head_elements);
  double seconds = 0;
  for (std::size_t kind = 0; kind < work_.layers.size(); ++kind) {
    const LayerWork& layer = work_.layers[kind];
    const auto& [plain, recomputing, again] = passes[kind];
    const auto saved =
        static_cast<double>(memory_.saved_bytes(layer.number, strategy.micro_batch, Recompute::full));
    const double activations = saved * strategy.offload_activations / rates_.host_link_bandwidth;
    const double fetched = fetch(layer.parameters), answered = fetched + reduce(layer.parameters);
    seconds += (layer.count - again) * (hidden(fetched, plain.forward) + hidden(answered, plain.backward));
    seconds += again * (hidden(fetched + activations, recomputing.forward) +
                        hidden(answered + activations, recomputing.backward));
  }
  const double head_moves = fetch(outer) * (work_.tied ? 2 : 1) + reduce(work_.head_elements);
  seconds += hidden(head_moves, head) + reduce(work_.embedding_elements);
  return seconds;
}

double TimeModel::optimizer_seconds(const Strategy& strategy) const {
  const auto ranks = static_cast<double>(memory_.question().world_size);
  const double mine = work_.num_parameters / (strategy.shards_optimizer() ? ranks : 1);
  const double on_host = mine * strategy.offload_optimizer;
  const auto width = static_cast<double>(working_bytes(memory_.question().precision));
  const bool weights_on_host = strategy.weights == WeightSourceKind::host;
  const double device = (mine - on_host) * (kAdamWBytes + kNormBytes) / rates_.memory_bandwidth;
  const double host = on_host * kAdamWBytes / rates_.host_memory_bandwidth;
  const double norm = on_host * kNormBytes / rates_.host_memory_bandwidth;
  // Where weight and state lie apart, the weight travels both ways.
  const double crossing = weights_on_host ? mine - on_host : on_host;
  const double link = crossing * width / rates_.host_link_bandwidth;
  double exchanged = 0;
  if (!strategy.shards_optimizer()) exchanged = gather_seconds(4 * work_.num_parameters);
  if (strategy.shards_optimizer() && !strategy.shards_weights())
    exchanged = gather_seconds(width * work_.num_parameters);
  if (strategy.reduce == ReduceMode::step) exchanged += reduce_seconds(strategy, 4 * work_.num_parameters);
  return device + norm + std::max(host, link) + exchanged;
}

StepTime TimeModel::step(const Strategy& strategy, std::int64_t num_micro_batches) {
  const std::vector<Passes> passes = passes_of(strategy);
  const double head = head_seconds(strategy.micro_batch, strategy.head_chunks);
  double compute = head, recompute = 0;
  for (std::size_t kind = 0; kind < passes.size(); ++kind) {
    const auto& [plain, recomputing, again] = passes[kind];
    compute += work_.layers[kind].count * (plain.forward + plain.backward);
    recompute += again * (recomputing.backward - plain.backward);
  }
  const auto count = static_cast<double>(num_micro_batches);
  StepTime time;
  time.compute = count * compute + accumulation_seconds(strategy, count);
  time.recompute = count * recompute;
  time.exposed = count * exposed_seconds(strategy, passes, head);
  time.optimizer = optimizer_seconds(strategy);
  return time;
}

double TimeModel::link_seconds(const Strategy& strategy, std::int64_t num_micro_batches) {
  Rates no_time = rates_;
  no_time.link_bandwidth = no_time.message_bandwidth = std::numeric_limits<double>::infinity();
  no_time.link_latency = 0;
  return step(strategy, num_micro_batches).total() -
         TimeModel(memory_, no_time).step(strategy, num_micro_batches).total();
}

double TimeModel::model_flops_utilization(double tokens_per_second_per_rank) const {
  return tokens_per_second_per_rank * work_.flops_per_token() / rates_.peak_flops;
}

}  // namespace autoglm
