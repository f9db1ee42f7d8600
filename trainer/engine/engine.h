// Walks the block chain: forward, head, backward, reduction, optimizer step.
//
// The same code runs on the CPU, on CUDA, and on the meta device, where it computes nothing but allocates
// exactly what the real run will: that is how a step is rehearsed.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/edge.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sharding/communicator.h"
#include "sharding/memory/out_of_memory.h"
#include "trainer/engine/engine_options.h"
#include "trainer/engine/micro_batch.h"
#include "trainer/models/model.h"
#include "trainer/ops/head.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/activation_store.h"
#include "trainer/states/training_states.h"

namespace autoglm {

class Engine {
 public:
  // Allocates weights, optimizer states and slots. `model` and `communicator` must outlive the engine; the
  // communicator is for the device's memory. All ranks construct, and call everything below, alike.
  Engine(Model& model, const EngineOptions& options, Communicator& communicator);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Forward and backward of one micro-batch. Gradients of loss_sum * gradient_scale are added to the ranks'
  // accumulators. Returns this rank's sum of the loss over supervised tokens. `last` of a step: no other follows, which
  // saves finish_accumulation() a pass over gradients on the host.
  //
  // A rank that runs out of memory frees its activations and goes on with the collectives alone, so that no
  // other waits for it; finish_accumulation() tells all of them.
  double train_micro_batch(const MicroBatch& batch, float gradient_scale, bool last = false);

  // Forward only. Returns this rank's sum of the loss over supervised tokens. Out of memory as above: the
  // next agree_on_memory() tells.
  double evaluate_micro_batch(const MicroBatch& batch);

  // Ends the accumulation of a step: sums `loss_sum` and the squared gradients over all ranks, in a fixed
  // order. Collective.
  // `mine` are this rank's votes, but for memory.
  StepSums finish_accumulation(double loss_sum, const StepVotes& mine = {});

  // How many ranks have run out of memory since the last call of this or of finish_accumulation().
  // Collective.
  std::int64_t agree_on_memory();

  // What this rank's allocator said when it last ran out of memory; none if it did not since
  // change_strategy().
  const std::optional<OutOfMemory>& out_of_memory() const { return last_out_of_memory_; }
  // The phase in which it did.
  EnginePhase out_of_memory_phase() const { return failed_phase_; }

  // From now on `strategy`, between steps (TrainingStates::change_strategy). Only this rank's memory is
  // touched; all ranks call it. OutOfMemory when the states do not fit on the way: then the engine cannot be
  // used any more.
  void change_strategy(const Strategy& strategy);

  // AdamW with every gradient multiplied by `gradient_scale`; `step` counts from 1. At the first
  // call the moments begin at zero. Allocates nothing on the device. The accumulators are empty afterwards.
  // Changed weights are brought to other ranks while the next forward pass begins.
  void optimizer_step(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                      double gradient_scale);

  // Drops the accumulated gradients.
  void discard_gradients() { states_.reducer().discard(); }

  // Logits fp32 [tokens, V] of the last `num_tokens` tokens of a forward pass in `context`, on the device.
  // Keys and values go to the layers' `caches`, if there are any. Records nothing.
  at::Tensor logits(ForwardContext context, std::int64_t num_tokens,
                    std::span<ops::KeyValueCache> caches = {});

  // Of all tokens of a micro-batch, [B * T, V].
  at::Tensor logits(const MicroBatch& batch);

  // Weights and optimizer states, to be loaded, exported and looked at.
  StateAccess state_access() { return states_.access(); }
  // Reads the states that state_access() says are to be saved, with options().saves_states.
  StateSaver& saver() { return *saver_; }
  const BlockState& block_state(std::size_t index) const { return states_[index]; }
  std::size_t num_blocks() const { return states_.size(); }

  const EngineOptions& options() const { return options_; }
  Model& model() { return model_; }

 private:
  struct SavedLayer {
    at::Tensor input;            // the leaf of the block's graph, or only its input under full recompute
    torch::autograd::Edge root;  // where the graph ends; invalid under full recompute
  };

  ForwardContext context_for(const MicroBatch& batch, std::int64_t layer) const;
  at::Tensor embed(const MicroBatch& batch);
  at::Tensor forward_layers(at::Tensor x, const MicroBatch& batch, bool training);
  void backward_layer(std::size_t layer, const MicroBatch& batch, at::Tensor& gradient);
  ops::HeadResult run_head(const at::Tensor& x, const MicroBatch& batch, float gradient_scale, bool training);
  void acquire_head();
  void release_head();
  void reduce_head();
  void reduce_block(std::size_t index);
  void offload_activations();
  // Whoever listens is told once the device has done the phase's work.
  void end_phase(EnginePhase phase, std::size_t block = 0) {
    if (!options_.on_phase) return;
    streams_.compute().synchronize();
    options_.on_phase(phase, block);
  }
  // Runs a piece of compute, unless this rank has run out of memory: then only the collectives go on.
  template <typename Piece>
  void attempt(Piece&& piece);
  void run_out_of_memory(const OutOfMemory& error);
  WeightSource& weights() { return states_.weights(); }
  GradientReducer& reducer() { return states_.reducer(); }
  // The block that stands there makes the stream or takes it further.
  at::Tensor run_block(std::size_t index, const at::Tensor& x, const ForwardContext& context) const {
    return static_cast<StreamBlock&>(*model_.blocks[index]).forward(x, context);
  }
  bool tied() const { return model_.head().reads_table(); }
  // Whether a backward pass reaches block `index`: it is trainable, or one below it is.
  bool needs_backward(std::size_t index) const { return index >= lowest_trainable_; }

  Model& model_;
  EngineOptions options_;
  Communicator& communicator_;
  EngineStreams streams_;
  at::Tensor workspace_;
  std::vector<ops::RotaryTable> rotary_tables_;
  TrainingStates states_;
  // Where they stand in the list of blocks; layers by number.
  std::size_t embedding_, head_;
  std::vector<std::size_t> layers_;
  std::size_t lowest_trainable_ = 0;
  std::optional<ActivationStore> activations_;
  std::optional<StateSaver> saver_;
  at::Tensor anchor_;
  std::vector<SavedLayer> saved_;
  EnginePhase phase_ = EnginePhase::construction;
  EnginePhase failed_phase_ = EnginePhase::construction;
  bool failed_ = false;  // out of memory since the ranks last agreed
  std::optional<OutOfMemory> last_out_of_memory_;
};

}  // namespace autoglm
