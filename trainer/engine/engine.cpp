#include "trainer/engine/engine.h"

#include <ATen/ops/zeros.h>
#include <c10/core/AutogradState.h>
#include <torch/csrc/autograd/engine.h>

#include <cmath>

#include "sharding/memory/category.h"
#include "sharding/memory/device_arena.h"
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

// On the device, or where it is rehearsed.
bool on_cuda(at::Device device) {
  return device.is_cuda() || (device.is_meta() && ops::rehearsal_target() == ops::Target::cuda);
}

// Takes cuBLAS's workspace, or in a rehearsal allocates what that would; the result is to be kept.
at::Tensor start_products(at::Device device) {
  const CategoryScope scope(MemoryCategory::workspace);
  if (device.is_cuda()) start_products_on_device(device);
  if (device.is_cuda() || !on_cuda(device)) return {};
  const at::TensorOptions options = at::TensorOptions().device(device);
  const at::Tensor factor = at::empty({16, 16}, options.dtype(at::kFloat));
  const at::Tensor product = at::empty_like(factor);
  return at::empty({kCublasWorkspaceBytes}, options.dtype(at::kByte));
}

}  // namespace

Engine::Engine(Model& model, const EngineOptions& options, Communicator& communicator)
    : model_(model), options_(options), communicator_(communicator), streams_(options.device) {
  const std::string conflict = strategy_conflict(options.strategy, options.precision);
  AUTOGLM_CHECK(conflict.empty(), "{}", conflict);
  options_.max_positions = std::max(options_.max_positions, options_.row_length);
  workspace_ = start_products(options_.device);
  rotary_ = ops::make_rotary_table(model.config.rotary, options_.max_positions, options_.device);
  for (Block* block : model.blocks()) states_.emplace_back(*block, placement());
  const std::vector<std::int64_t> on_host = host_elements(states_, options_.strategy.offload_optimizer);
  for (std::size_t i = 0; i < states_.size(); ++i) states_[i].allocate(on_host[i]);
  while (lowest_trainable_ < states_.size() && !states_[lowest_trainable_].trainable()) ++lowest_trainable_;
  AUTOGLM_CHECK(lowest_trainable_ < states_.size(), "nothing is trainable");
  allocate_buffers();
  anchor_ =
      at::empty({0}, at::TensorOptions().dtype(scalar_type(options_.precision)).device(options_.device));
  anchor_.requires_grad_(true);
  saved_.resize(model.layers.size());
  end_phase(EnginePhase::construction);
}

StatePlacement Engine::placement() const {
  return {communicator_.rank(), communicator_.size(), options_.strategy, options_.precision, options_.device};
}

// Everything that is no state: slots and staging buffers.
void Engine::allocate_buffers() {
  reducer_.emplace(states_, placement(), communicator_, streams_);
  weights_.emplace(states_, placement(), communicator_, streams_);
  optimizer_.emplace(states_, placement(), communicator_, streams_, *reducer_, *weights_, options_.seed);
  offload_activations();
  if (options_.strategy.offload_optimizer > 0) {
    squares_piece_ =
        allocate_flat(kSquaresPiece, at::kFloat, options_.device, MemoryCategory::staging, MemoryPool::host);
  }
  if (on_cuda(options_.device)) {
    std::int64_t most = 0;
    for (const BlockState& state : states_) most = std::max(most, num_squares(state));
    device_sums_ = allocate_flat(most, at::kDouble, options_.device, MemoryCategory::staging);
  }
}

// The first layers that are recomputed fully and reached by a backward pass.
void Engine::offload_activations() {
  const Strategy& strategy = options_.strategy;
  if (strategy.offload_activations == 0) return;
  std::int64_t first = -1, count = 0;
  for (std::size_t i = 0; i < model_.layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    if (strategy.level_of(layer) != Recompute::full || !needs_backward(i + 1)) continue;
    if (first < 0) first = layer;
    ++count;
  }
  const auto offloaded = std::llround(strategy.offload_activations * static_cast<double>(count));
  if (offloaded == 0) return;
  activations_.emplace(first, offloaded,
                       strategy.micro_batch * options_.row_length * model_.config.hidden_size,
                       scalar_type(options_.precision), options_.device, streams_);
}

template <typename Piece>
void Engine::attempt(Piece&& piece) {
  if (failed_) return;
  try {
    piece();
  } catch (const OutOfMemory& error) {
    run_out_of_memory(error);
  }
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
  context.rotary = &rotary_;
  context.keep_inputs = options_.strategy.level_of(layer) != Recompute::cheap;
  return context;
}

// The table stays acquired under tied embeddings only while it is read: the head acquires it again.
at::Tensor Engine::embed(const MicroBatch& batch) {
  for (const std::int32_t id : batch.largest_ids) {
    AUTOGLM_CHECK(id < model_.config.vocabulary_size, "token id {} of a vocabulary of {}", id,
                  model_.config.vocabulary_size);
  }
  weights_->acquire(0);
  weights_->prefetch(1);
  at::Tensor x;
  attempt([&] { x = model_.embedding->forward(anchor_, context_for(batch, 0)); });
  weights_->release(0);
  return x;
}

at::Tensor Engine::forward_layers(at::Tensor x, const MicroBatch& batch, bool training) {
  for (std::size_t i = 0; i < model_.layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    weights_->acquire(i + 1);
    weights_->prefetch(i + 2);
    const bool saves = training && needs_backward(i + 1);
    const bool records = saves && options_.strategy.level_of(layer) != Recompute::full;
    const bool offloads = saves && activations_ && activations_->holds(layer);
    SavedLayer saved;
    at::Tensor y;
    attempt([&] {
      const ForwardContext context = context_for(batch, layer);
      const at::AutoGradMode mode(records);
      saved.input = x.detach().requires_grad_(records);
      if (offloads) activations_->save(layer, saved.input);
      y = model_.layers[i]->forward(saved.input, context);
    });
    weights_->release(i + 1);
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
    end_phase(training ? EnginePhase::forward : EnginePhase::evaluation, i + 1);
  }
  return x;
}

ops::HeadResult Engine::run_head(const at::Tensor& x, const MicroBatch& batch, float gradient_scale,
                                 bool training) {
  const std::int64_t tokens = batch.num_tokens();
  const std::int64_t chunks = std::min(options_.strategy.head_chunks, tokens);
  return ops::head_loss(x.view({tokens, x.size(-1)}), batch.targets, model_.head->head(),
                        (tokens + chunks - 1) / chunks, gradient_scale, training);
}

void Engine::acquire_head() {
  if (tied()) weights_->acquire(0);
  weights_->acquire(head_index());
}

void Engine::release_head() {
  if (tied()) weights_->release(0);
  weights_->release(head_index());
}

// Tied embeddings: the matrix's gradient is reduced twice, the head's part first.
void Engine::reduce_head() {
  if (tied()) {
    if (!failed_) states_.front().check_gradient_written(*model_.head->head().weight);
    reducer_->reduce(0);
  }
  reduce_block(head_index());
}

void Engine::backward_layer(std::size_t layer, const MicroBatch& batch, at::Tensor& gradient) {
  SavedLayer saved = std::exchange(saved_[layer], {});
  const auto number = static_cast<std::int64_t>(layer);
  const std::size_t index = layer + 1;
  const bool continues = layer > 0 && needs_backward(index - 1);
  attempt([&] {
    if (activations_ && activations_->holds(number)) saved.input = activations_->take(number);
  });
  weights_->acquire(index);
  if (continues) {
    weights_->prefetch(index - 1);
    attempt([&] {
      if (activations_ && activations_->holds(number - 1)) activations_->prefetch(number - 1);
    });
  }
  reducer_->acquire(index);
  attempt([&] {
    if (!saved.root.is_valid()) {
      const at::AutoGradMode mode(true);
      saved.input.requires_grad_(true);
      const ForwardContext context = context_for(batch, number);
      saved.root = gradient_edge(model_.layers[layer]->forward(saved.input, context));
    }
    gradient = backward(std::move(saved.root), std::move(gradient), saved.input);
  });
  if (failed_) gradient.reset();
  weights_->release(index);
  reduce_block(index);
  saved = {};
  end_phase(EnginePhase::backward, index);
}

// A rank that is out of memory hands over whatever lies in the buffer: the step is void.
void Engine::reduce_block(std::size_t index) {
  if (!failed_) states_[index].check_gradients_written();
  reducer_->reduce(index);
}

double Engine::train_micro_batch(const MicroBatch& batch, float gradient_scale) {
  const CategoryScope scope(MemoryCategory::activations);
  phase_ = EnginePhase::forward;
  torch::autograd::Edge embedding_root;
  at::Tensor x;
  {
    const at::AutoGradMode mode(needs_backward(0));
    const at::Tensor embedded = embed(batch);
    attempt([&] {
      if (needs_backward(0)) embedding_root = gradient_edge(embedded);
      x = embedded.detach();
    });
  }
  x = forward_layers(std::move(x), batch, true);

  phase_ = EnginePhase::head;
  if (tied()) reducer_->acquire(0);
  reducer_->acquire(head_index());
  acquire_head();
  ops::HeadResult head;
  attempt([&] { head = run_head(x, batch, gradient_scale, true); });
  release_head();
  x.reset();
  reduce_head();
  end_phase(EnginePhase::head, head_index());

  phase_ = EnginePhase::backward;
  at::Tensor gradient;
  attempt([&] { gradient = head.dx.view({batch.rows.batch, batch.rows.length, head.dx.size(1)}); });
  head.dx.reset();
  for (std::size_t i = model_.layers.size(); i-- > 0 && needs_backward(i + 1);)
    backward_layer(i, batch, gradient);
  if (needs_backward(0)) {
    const bool reads_weights = model_.embedding->backward_reads_weights();
    if (reads_weights) weights_->acquire(0);
    reducer_->acquire(0);
    attempt([&] { backward(std::move(embedding_root), std::move(gradient), anchor_); });
    if (reads_weights) weights_->release(0);
    reduce_block(0);
    end_phase(EnginePhase::backward, 0);
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
  end_phase(EnginePhase::evaluation, head_index());
  return loss_sum;
}

StepSums Engine::finish_accumulation(double loss_sum) {
  reducer_->finish();
  double squares = 0;
  for (const BlockState& state : states_) squares += sum_of_squares(state, squares_piece_, device_sums_);
  std::array<double, 3> sums{loss_sum, squares, std::exchange(failed_, false) ? 1.0 : 0.0};
  const Event summed = communicator_.all_reduce(sums, streams_.compute().record());
  streams_.wait_on_host(summed);
  return {sums[0], std::sqrt(sums[1]), streams_.take_exposed_seconds(), std::llround(sums[2])};
}

std::int64_t Engine::agree_on_memory() {
  std::array<double, 1> failures{std::exchange(failed_, false) ? 1.0 : 0.0};
  communicator_.all_reduce(failures, streams_.compute().record()).synchronize();
  return std::llround(failures[0]);
}

void Engine::optimizer_step(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                            double gradient_scale) {
  optimizer_->run(settings, learning_rate, step, gradient_scale);
  end_phase(EnginePhase::optimizer);
}

void Engine::discard_gradients() {
  reducer_->discard();
}

at::Tensor Engine::logits(const MicroBatch& batch) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = forward_layers(embed(batch), batch, false);
  acquire_head();
  at::Tensor logits = ops::head_logits(x.view({batch.num_tokens(), x.size(-1)}), model_.head->head());
  release_head();
  return logits;
}

}  // namespace autoglm
