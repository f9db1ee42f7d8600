#include "launcher/planner/time_model.h"

#include <algorithm>

#include "trainer/models/model.h"

namespace autoglm {
namespace {

// Elementwise passes over what a layer saves: written and read in the forward pass, read and answered with
// gradients in the backward pass.
constexpr double kForwardPasses = 2;
constexpr double kBackwardPasses = 3;
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

TimeModel::Pass TimeModel::layer_pass(const LayerWork& layer, std::int64_t micro_batch) {
  const auto tokens = static_cast<double>(micro_batch * memory_.question().row_length);
  const double flops = tokens * (2 * layer.elements + layer.attention_flops_per_token);
  const double speed = rates_.matrix_flops * tokens / (tokens + rates_.matrix_half_tokens);
  const double products = flops / speed;
  const auto saved = static_cast<double>(memory_.saved_bytes(layer.number, micro_batch, Recompute::none));
  const auto width = static_cast<double>(working_bytes(memory_.question().precision));
  const double weights = layer.parameters * width / rates_.memory_bandwidth;
  const double gradients = layer.parameters * 8 / rates_.memory_bandwidth;
  Pass pass;
  pass.forward =
      products + kForwardPasses * saved / rates_.memory_bandwidth + weights + rates_.block_overhead;
  pass.backward = 2 * products + kBackwardPasses * saved / rates_.memory_bandwidth + weights + gradients +
                  rates_.block_overhead;
  return pass;
}

double TimeModel::head_seconds(std::int64_t micro_batch) {
  const auto tokens = static_cast<double>(micro_batch * memory_.question().row_length);
  const double speed = rates_.matrix_flops * tokens / (tokens + rates_.matrix_half_tokens);
  const double logits = tokens * static_cast<double>(memory_.question().model.vocabulary_size);
  return 6 * tokens * work_.head_elements / speed +
         (kHeadBytesPerLogit * logits + 10 * work_.head_elements) / rates_.memory_bandwidth;
}

double TimeModel::recompute_seconds(const Strategy& strategy, std::span<const Pass> passes) {
  if (strategy.recompute == Recompute::none) return 0;
  const auto all = static_cast<std::int64_t>(work_.kinds.size());
  const std::int64_t first = strategy.recompute_layers < 0 ? all : std::min(strategy.recompute_layers, all);
  double seconds = 0;
  for (std::size_t kind = 0; kind < work_.layers.size(); ++kind) {
    const std::int64_t number = work_.layers[kind].number;
    const auto layers =
        static_cast<double>(std::count(work_.kinds.begin(), work_.kinds.begin() + first, kind));
    if (strategy.recompute == Recompute::full) {
      seconds += layers * passes[kind].forward;
      continue;
    }
    // What is not kept is read for and written again, one elementwise pass.
    const auto dropped =
        static_cast<double>(memory_.saved_bytes(number, strategy.micro_batch, Recompute::none) -
                            memory_.saved_bytes(number, strategy.micro_batch, Recompute::cheap));
    seconds += layers * 3 * dropped / rates_.memory_bandwidth;
  }
  return seconds;
}

double TimeModel::ring_seconds(double bytes) const {
  const int ranks = memory_.question().world_size;
  if (ranks == 1) return 0;
  return rates_.link_latency + bytes * (ranks - 1) / ranks / rates_.link_bandwidth;
}

// Of a reduce-scatter: in order it goes by messages, which move as many bytes as a ring.
double TimeModel::reduce_seconds(const Strategy& strategy, double bytes) const {
  const double seconds = ring_seconds(bytes);
  return strategy.reduce_scatter == ReduceScatter::ordered ? seconds / rates_.message_share : seconds;
}

// What is left of a movement that goes on beside compute.
double TimeModel::hidden(double moved, double compute) const {
  return moved - rates_.overlap * std::min(moved, compute);
}

// Block by block: what a layer moves hides behind the layer beside it. The first gather and the last
// reduction have nothing to hide behind.
double TimeModel::exposed_seconds(const Strategy& strategy, std::span<const Pass> passes, double head) {
  const auto width = static_cast<double>(working_bytes(memory_.question().precision));
  const bool uploads = strategy.weights == WeightSourceKind::host;
  const double share = strategy.shards_weights() ? 1.0 / memory_.question().world_size : 1.0;
  const auto fetch = [&](double elements) {
    const double uploaded = uploads ? share * width * elements / rates_.host_link_bandwidth : 0;
    const double gathered = strategy.shards_weights() ? ring_seconds(width * elements) : 0;
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
    const Pass& pass = passes[kind];
    const auto saved =
        static_cast<double>(memory_.saved_bytes(layer.number, strategy.micro_batch, Recompute::full));
    const double activations = saved * strategy.offload_activations / rates_.host_link_bandwidth;
    const double again = strategy.recompute == Recompute::full ? pass.forward : 0;
    seconds += layer.count * hidden(fetch(layer.parameters) + activations, pass.forward);
    seconds += layer.count * hidden(fetch(layer.parameters) + reduce(layer.parameters) + activations,
                                    pass.backward + again);
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
  const double device = (mine - on_host) * kAdamWBytes / rates_.memory_bandwidth;
  const double host = on_host * kAdamWBytes / rates_.host_memory_bandwidth;
  // Where weight and state lie apart, the weight travels both ways.
  const double crossing = weights_on_host ? mine - on_host : on_host;
  const double link = crossing * width / rates_.host_link_bandwidth;
  double exchanged = 0;
  if (!strategy.shards_optimizer()) exchanged = ring_seconds(4 * work_.num_parameters);
  if (strategy.shards_optimizer() && !strategy.shards_weights())
    exchanged = ring_seconds(width * work_.num_parameters);
  if (strategy.reduce == ReduceMode::step) exchanged += reduce_seconds(strategy, 4 * work_.num_parameters);
  return device + std::max(host, link) + exchanged;
}

StepTime TimeModel::step(const Strategy& strategy, std::int64_t num_micro_batches) {
  std::vector<Pass> passes;
  double compute = 0;
  for (const LayerWork& layer : work_.layers) {
    passes.push_back(layer_pass(layer, strategy.micro_batch));
    compute += layer.count * (passes.back().forward + passes.back().backward);
  }
  const double head = head_seconds(strategy.micro_batch);
  const auto count = static_cast<double>(num_micro_batches);
  StepTime time;
  time.compute = count * (compute + head);
  time.recompute = count * recompute_seconds(strategy, passes);
  time.exposed = count * exposed_seconds(strategy, passes, head);
  time.optimizer = optimizer_seconds(strategy);
  return time;
}

double TimeModel::model_flops_utilization(double tokens_per_second_per_rank) const {
  return tokens_per_second_per_rank * work_.flops_per_token() / rates_.peak_flops;
}

}  // namespace autoglm
