#include "trainer/engine/engine.h"

#include <ATen/ops/zeros.h>
#include <c10/core/AutogradState.h>
#include <c10/util/accumulate.h>
#include <torch/csrc/autograd/engine.h>

#include <cmath>

#include "sharding/cuda/cublas_workspace.h"
#include "sharding/memory/category.h"
#include "trainer/ops/head.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

using torch::autograd::impl::gradient_edge;

// Back-propagates `gradient` through the graph that ends in `root`, down to `leaf`. The gradient is given up
// as soon as the graph has taken it. Runs on this thread, on CUDA too, where LibTorch has a thread for each
// device otherwise: only one thread allocates, and errors come out here.
at::Tensor backward(torch::autograd::Edge root, at::Tensor gradient, const at::Tensor& leaf) {
  const torch::autograd::edge_list roots{std::move(root)};
  const torch::autograd::edge_list leaves{gradient_edge(leaf)};
  torch::autograd::variable_list gradients{std::move(gradient)};
  c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  return torch::autograd::Engine::get_default_engine().execute(roots, gradients, false, false, false,
                                                               leaves)[0];
}

// Takes cuBLAS's workspace, or in a rehearsal allocates what that would; the result is to be kept.
at::Tensor start_products(at::Device device) {
  const CategoryScope scope(MemoryCategory::workspace);
  if (device.is_cuda()) start_products_on_device(device);
  if (device.is_cuda() || ops::target_of(device) != ops::Target::cuda) return {};
  const at::TensorOptions options = at::TensorOptions().device(device);
  const at::Tensor factor = at::empty({16, 16}, options.dtype(at::kFloat));
  const at::Tensor product = at::empty_like(factor);
  return at::empty({kCublasWorkspaceBytes}, options.dtype(at::kByte));
}

// What is not allowed together, and how long rows are at least.
EngineOptions checked(EngineOptions options) {
  const std::string conflict = strategy_conflict(options.strategy, options.precision);
  AUTOGLM_CHECK(conflict.empty(), "{}", conflict);
  options.max_positions = std::max(options.max_positions, options.row_length);
  return options;
}

std::vector<ops::RotaryTable> make_rotary_tables(const ModelConfig& config, const EngineOptions& options) {
  std::vector<ops::RotaryTable> tables;
  for (const ops::RotarySpec& spec : config.rotary)
    tables.push_back(ops::make_rotary_table(spec, options.max_positions, options.device));
  return tables;
}

StatePlacement placement_of(const EngineOptions& options, const Communicator& communicator) {
  return {communicator.rank(), communicator.size(), options.strategy, options.precision, options.device};
}

}  // namespace

Engine::Engine(Model& model, const EngineOptions& options, Communicator& communicator)
    : model_(model),
      options_(checked(options)),
      communicator_(communicator),
      streams_(options.device),
      workspace_(start_products(options.device)),
      rotary_tables_(make_rotary_tables(model.config, options_)),
      states_(model, placement_of(options_, communicator), {communicator, communicator}, streams_,
              options.seed),
      embedding_(model.place(BlockRole::embedding)),
      head_(model.place(BlockRole::head)),
      layers_(model.places(BlockRole::layer)) {
  while (lowest_trainable_ < states_.size() && !states_[lowest_trainable_].trainable()) ++lowest_trainable_;
  AUTOGLM_CHECK(lowest_trainable_ < states_.size(), "nothing is trainable");
  offload_activations();
  if (options_.saves_states) saver_.emplace(placement_of(options_, communicator));
  anchor_ =
      at::empty({0}, at::TensorOptions().dtype(scalar_type(options_.precision)).device(options_.device));
  anchor_.requires_grad_(true);
  saved_.resize(layers_.size());
  end_phase(EnginePhase::construction);
}

void Engine::change_strategy(const Strategy& strategy) {
  const std::string conflict = strategy_conflict(strategy, options_.precision);
  AUTOGLM_CHECK(conflict.empty(), "{}", conflict);
  activations_.reset();
  for (SavedLayer& saved : saved_) saved = {};
  options_.strategy = strategy;
  states_.change_strategy(strategy);
  offload_activations();
  failed_ = false;
  last_out_of_memory_.reset();
}

// The first layers that are recomputed fully and reached by a backward pass.
void Engine::offload_activations() {
  const Strategy& strategy = options_.strategy;
  if (strategy.offload_activations == 0) return;
  std::int64_t first = -1;
  std::vector<std::int64_t> elements;
  const std::vector<LayerBlock*> layers = model_.layers();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    if (strategy.level_of(layer) != Recompute::full || !needs_backward(layers_[i])) continue;
    if (first < 0) first = layer;
    elements.push_back(
        c10::multiply_integers(layers[i]->stream_shape(strategy.micro_batch, options_.row_length)));
  }
  elements.resize(static_cast<std::size_t>(
      std::llround(strategy.offload_activations * static_cast<double>(elements.size()))));
  if (elements.empty()) return;
  activations_.emplace(first, elements, scalar_type(options_.precision), options_.device, streams_);
}

template <typename Piece>
void Engine::attempt(Piece&& piece) {
  if (failed_) return;
  if (const auto failure = run_within_memory(piece)) run_out_of_memory(*failure);
}

// Frees what the step holds, so that nothing of it is in the way of what comes next.
void Engine::run_out_of_memory(const OutOfMemory& error) {
  failed_ = true;
  failed_phase_ = phase_;
  last_out_of_memory_ = error;
  if (activations_) activations_->clear();
  for (SavedLayer& saved : saved_) saved = {};
}

ForwardContext Engine::context_for(const MicroBatch& batch, std::int64_t layer) const {
  ForwardContext context;
  context.rows = batch.rows;
  context.ids = batch.ids;
  context.positions = batch.positions;
  context.rotary_tables = rotary_tables_;
  context.keep_inputs = options_.strategy.level_of(layer) != Recompute::cheap;
  return context;
}

// The table stays acquired under tied embeddings only while it is read: the head acquires it again.
at::Tensor Engine::embed(const MicroBatch& batch) {
  for (const std::int32_t id : batch.largest_ids) {
    AUTOGLM_CHECK(id < model_.config.vocabulary_size, "token id {} of a vocabulary of {}", id,
                  model_.config.vocabulary_size);
  }
  weights().acquire(embedding_);
  weights().prefetch(embedding_ + 1);
  at::Tensor x;
  attempt([&] { x = run_block(embedding_, anchor_, context_for(batch, 0)); });
  weights().release(embedding_);
  return x;
}

at::Tensor Engine::forward_layers(at::Tensor x, const MicroBatch& batch, bool training) {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    const std::size_t index = layers_[i];
    weights().acquire(index);
    weights().prefetch(index + 1);
    const bool saves = training && needs_backward(index);
    const bool records = saves && options_.strategy.level_of(layer) != Recompute::full;
    const bool offloads = saves && activations_ && activations_->holds(layer);
    SavedLayer saved;
    at::Tensor y;
    attempt([&] {
      const ForwardContext context = context_for(batch, layer);
      const at::AutoGradMode mode(records);
      saved.input = x.detach().requires_grad_(records);
      if (offloads) activations_->save(layer, saved.input);
      y = run_block(index, saved.input, context);
    });
    weights().release(index);
    if (failed_) {
      x.reset();
      continue;
    }
    if (offloads) activations_->settle(layer);
    x = y.detach();
    if (records) saved.root = gradient_edge(y);
    if (offloads) saved.input.reset();
    if (saves) saved_[i] = std::move(saved);
    y.reset();
    saved = {};
    end_phase(training ? EnginePhase::forward : EnginePhase::evaluation, index);
  }
  return x;
}

ops::HeadResult Engine::run_head(const at::Tensor& x, const MicroBatch& batch, float gradient_scale,
                                 bool training) {
  const std::int64_t tokens = batch.num_tokens();
  const std::int64_t chunks = std::min(options_.strategy.head_chunks, tokens);
  return ops::head_loss(x.view({tokens, x.size(-1)}), batch.targets, model_.head().head,
                        (tokens + chunks - 1) / chunks, gradient_scale, training);
}

void Engine::acquire_head() {
  if (tied()) weights().acquire(embedding_);
  weights().acquire(head_);
}

void Engine::release_head() {
  if (tied()) weights().release(embedding_);
  weights().release(head_);
}

// Tied embeddings: the matrix's gradient is reduced twice, the head's part first.
void Engine::reduce_head() {
  if (tied()) {
    if (!failed_) states_[embedding_].check_gradient_written(*model_.head().head.weight);
    reducer().reduce(embedding_);
  }
  reduce_block(head_);
}

void Engine::backward_layer(std::size_t layer, const MicroBatch& batch, at::Tensor& gradient) {
  SavedLayer saved = std::exchange(saved_[layer], {});
  const auto number = static_cast<std::int64_t>(layer);
  const std::size_t index = layers_[layer];
  const bool continues = layer > 0 && needs_backward(layers_[layer - 1]);
  attempt([&] {
    if (activations_ && activations_->holds(number)) saved.input = activations_->take(number);
  });
  weights().acquire(index);
  if (continues) {
    weights().prefetch(layers_[layer - 1]);
    attempt([&] {
      if (activations_ && activations_->holds(number - 1)) activations_->prefetch(number - 1);
    });
  }
  reducer().acquire(index);
  attempt([&] {
    if (!saved.root.is_valid()) {
      const at::AutoGradMode mode(true);
      saved.input.requires_grad_(true);
      const ForwardContext context = context_for(batch, number);
      saved.root = gradient_edge(run_block(index, saved.input, context));
    }
    gradient = backward(std::move(saved.root), std::move(gradient), saved.input);
  });
  if (failed_) gradient.reset();
  weights().release(index);
  reduce_block(index);
  saved = {};
  end_phase(EnginePhase::backward, index);
}

// A rank that is out of memory hands over whatever lies in the buffer: the step is void.
void Engine::reduce_block(std::size_t index) {
  if (!failed_) states_[index].check_gradients_written();
  reducer().reduce(index);
}

double Engine::train_micro_batch(const MicroBatch& batch, float gradient_scale, bool last) {
  const CategoryScope scope(MemoryCategory::activations);
  reducer().expect_last(last);
  phase_ = EnginePhase::forward;
  torch::autograd::Edge embedding_root;
  at::Tensor x;
  {
    const at::AutoGradMode mode(needs_backward(embedding_));
    const at::Tensor embedded = embed(batch);
    attempt([&] {
      if (needs_backward(embedding_)) embedding_root = gradient_edge(embedded);
      x = embedded.detach();
    });
  }
  x = forward_layers(std::move(x), batch, true);

  phase_ = EnginePhase::head;
  if (tied()) reducer().acquire(embedding_);
  reducer().acquire(head_);
  acquire_head();
  ops::HeadResult head;
  attempt([&] { head = run_head(x, batch, gradient_scale, true); });
  release_head();
  x.reset();
  reduce_head();
  end_phase(EnginePhase::head, head_);

  phase_ = EnginePhase::backward;
  at::Tensor gradient;
  attempt([&] { gradient = head.dx.view({batch.rows.batch, batch.rows.length, head.dx.size(1)}); });
  head.dx.reset();
  for (std::size_t i = layers_.size(); i-- > 0 && needs_backward(layers_[i]);)
    backward_layer(i, batch, gradient);
  if (needs_backward(embedding_)) {
    const bool reads_weights = model_.embedding().backward_reads_weights();
    if (reads_weights) weights().acquire(embedding_);
    reducer().acquire(embedding_);
    attempt([&] { backward(std::move(embedding_root), std::move(gradient), anchor_); });
    if (reads_weights) weights().release(embedding_);
    reduce_block(embedding_);
    end_phase(EnginePhase::backward, embedding_);
  }
  return failed_ ? 0 : head.loss_sum;
}

double Engine::evaluate_micro_batch(const MicroBatch& batch) {
  const CategoryScope scope(MemoryCategory::activations);
  const at::NoGradGuard no_grad;
  phase_ = EnginePhase::evaluation;
  const at::Tensor x = forward_layers(embed(batch), batch, false);
  acquire_head();
  double loss_sum = 0;
  attempt([&] { loss_sum = run_head(x, batch, 1, false).loss_sum; });
  release_head();
  end_phase(EnginePhase::evaluation, head_);
  return loss_sum;
}

StepSums Engine::finish_accumulation(double loss_sum, const StepVotes& mine) {
  reducer().finish();
  const auto number = [](std::int64_t votes) { return static_cast<double>(votes); };
  std::array<double, 7> sums{loss_sum,
                             states_.norm().sum_of_squares(),
                             std::exchange(failed_, false) ? 1.0 : 0.0,
                             number(mine.save),
                             number(mine.stop),
                             number(mine.saved),
                             number(mine.save_failed)};
  const Event summed = communicator_.all_reduce(sums, streams_.compute().record());
  streams_.wait_on_host(summed);
  const auto votes = [&](std::size_t index) { return std::llround(sums[index]); };
  return {sums[0],
          std::sqrt(sums[1]),
          streams_.take_exposed_seconds(),
          {votes(2), votes(3), votes(4), votes(5), votes(6)}};
}

std::int64_t Engine::agree_on_memory() {
  std::array<double, 1> failures{std::exchange(failed_, false) ? 1.0 : 0.0};
  communicator_.all_reduce(failures, streams_.compute().record()).synchronize();
  return std::llround(failures[0]);
}

void Engine::optimizer_step(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                            double gradient_scale) {
  states_.optimizer().run(settings, learning_rate, step, gradient_scale);
  end_phase(EnginePhase::optimizer);
}

at::Tensor Engine::logits(ForwardContext context, std::int64_t num_tokens,
                          std::span<ops::KeyValueCache> caches) {
  const at::NoGradGuard no_grad;
  const CategoryScope scope(MemoryCategory::activations);
  context.rotary_tables = rotary_tables_;
  at::Tensor x = anchor_;
  const auto run = [&](std::size_t index) {
    weights().acquire(index);
    weights().prefetch(index + 1);
    x = run_block(index, x, context);
    weights().release(index);
  };
  run(embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (!caches.empty()) context.cache = &caches[i];
    run(layers_[i]);
  }
  const at::Tensor rows = x.view({x.size(0) * x.size(1), x.size(-1)});
  const at::Tensor last = rows.narrow(0, rows.size(0) - num_tokens, num_tokens).contiguous();
  acquire_head();
  at::Tensor logits = ops::head_logits(last, model_.head().head);
  release_head();
  return logits;
}

at::Tensor Engine::logits(const MicroBatch& batch) {
  return logits(context_for(batch, 0), batch.num_tokens());
}

}  // namespace autoglm
