// Walks the block chain: forward, head, backward, reduction, optimizer step.
//
// The same code runs on the CPU, on CUDA, and on the meta device, where it computes nothing but allocates
// exactly what the real run will: that is how a step is rehearsed.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/edge.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "sharding/communicator.h"
#include "sharding/memory/arena.h"
#include "sharding/strategy.h"
#include "sharding/stream.h"
#include "trainer/engine/micro_batch.h"
#include "trainer/models/model.h"
#include "trainer/ops/head.h"
#include "trainer/optim/adamw.h"
#include "trainer/states/activation_store.h"
#include "trainer/states/block_state.h"
#include "trainer/states/gradient_reducer.h"
#include "trainer/states/optimizer_step.h"
#include "trainer/states/streams.h"
#include "trainer/states/weight_source.h"

namespace autoglm {

// Pieces of a step between which memory and time are looked at.
enum class EnginePhase { construction, forward, head, backward, optimizer, evaluation };

constexpr std::string_view phase_name(EnginePhase phase) {
  constexpr std::string_view names[] = {"construction", "forward",   "head",
                                        "backward",     "optimizer", "evaluation"};
  return names[static_cast<std::size_t>(phase)];
}

struct EngineOptions {
  at::Device device = at::kCPU;
  Precision precision = Precision::bf16;
  Strategy strategy;
  std::int64_t row_length = 2048;
  // Longest document or answer; the rotary tables have this many positions (at least row_length).
  std::int64_t max_positions = 0;
  // Keys the rounding of bf16 moments.
  std::uint64_t seed = 42;
  // Called on the calling thread when a phase has ended: for every block of a forward and backward pass, with
  // its index, and with index 0 otherwise. For the planner.
  std::function<void(EnginePhase phase, std::size_t block)> on_phase = {};
};

// What all ranks know at the end of a step.
struct StepSums {
  double loss_sum = 0;       // over the supervised tokens of the global batch
  double gradient_norm = 0;  // before clipping
  // How long this rank's compute has waited for communication and transfers since the last step's sums.
  double exposed_seconds = 0;
  // How many ranks ran out of memory since the last step's sums: if any did, the sums and gradients mean
  // nothing, and the step is void.
  std::int64_t ranks_out_of_memory = 0;
};

class Engine {
 public:
  // Allocates weights, optimizer states and slots. `model` and `communicator` must outlive the engine; the
  // communicator is for the device's memory. All ranks construct, and call everything below, alike.
  Engine(Model& model, const EngineOptions& options, Communicator& communicator);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Fills what this rank holds of every parameter: `read(name, offset, values)` writes fp32 values from
  // element `offset` on, a piece at a time. Under stage 3 nothing beyond the rank's shards is read. Call
  // once.
  void load(
      const std::function<void(const std::string& name, std::int64_t offset, std::span<float> values)>& read);

  // Forward and backward of one micro-batch. Gradients of loss_sum * gradient_scale are added to the ranks'
  // accumulators. Returns this rank's sum of the loss over supervised tokens.
  //
  // A rank that runs out of memory frees its activations and goes on with the collectives alone, so that no
  // other waits for it; finish_accumulation() tells all of them.
  double train_micro_batch(const MicroBatch& batch, float gradient_scale);

  // Forward only. Returns this rank's sum of the loss over supervised tokens. Out of memory as above: the
  // next agree_on_memory() tells.
  double evaluate_micro_batch(const MicroBatch& batch);

  // Ends the accumulation of a step: sums `loss_sum` and the squared gradients over all ranks, in a fixed
  // order. Collective.
  StepSums finish_accumulation(double loss_sum);

  // How many ranks have run out of memory since the last call of this or of finish_accumulation().
  // Collective.
  std::int64_t agree_on_memory();

  // What this rank's allocator said when it last ran out of memory; none if it did not since
  // change_strategy().
  const std::optional<OutOfMemory>& out_of_memory() const { return last_out_of_memory_; }
  // The phase in which it did.
  EnginePhase out_of_memory_phase() const { return failed_phase_; }

  // From now on `strategy`, between steps: what was accumulated is dropped, weights and optimizer states stay
  // what they are, to the bit. States may move to the host and be sharded further, never back, and keep their
  // dtypes and layout: Error(bug) otherwise. Only this rank's memory is touched; all ranks call it.
  // OutOfMemory when the states do not fit on the way: then the engine cannot be used any more.
  void change_strategy(const Strategy& strategy);

  // AdamW with every gradient multiplied by `gradient_scale`; `step` counts from 1. At the first
  // call the moments begin at zero. Allocates nothing on the device. The accumulators are empty afterwards.
  // Changed weights are brought to other ranks while the next forward pass begins.
  void optimizer_step(const AdamWSettings& settings, double learning_rate, std::int64_t step,
                      double gradient_scale);

  // Drops the accumulated gradients.
  void discard_gradients();

  // Logits fp32 [B * T, V] of a micro-batch, on the device.
  at::Tensor logits(const MicroBatch& batch);

  // Greedy continuation of `prompt`: at most `max_new_tokens` ids, ending before the first of `stop_ids`.
  // prompt + new tokens must fit max_positions.
  std::vector<std::int32_t> generate(std::span<const std::int32_t> prompt, std::int64_t max_new_tokens,
                                     std::span<const std::int32_t> stop_ids);

  // Calls visit(name, offset, values) for every trainable parameter in model order, a piece at a time, with
  // its fp32 master values, the master rounded as a working weight where `save_dtype(name)` says bf16. Every
  // rank visits every piece: it is broadcast by its owner. Collective. Spans are valid during the call only.
  void export_parameters(
      const std::function<DType(const std::string&)>& save_dtype,
      const std::function<void(const std::string&, std::int64_t offset, std::span<const float>)>& visit);

  // The same for the gradients accumulated so far, after finish_accumulation() and before optimizer_step():
  // for tests and tools. Collective.
  void export_gradients(
      const std::function<void(const std::string&, std::int64_t offset, std::span<const float>)>& visit);

  // Rounds the weights to what export_parameters hands out, so that an evaluation sees what is written.
  // Ends training: master weights are changed.
  void round_to_saved(const std::function<DType(const std::string&)>& save_dtype);

  // What this rank owns of block `index`: for tests.
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
  void allocate_buffers();
  StatePlacement placement() const;
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
  at::Tensor next_token_logits(std::span<const std::int32_t> ids, std::vector<ops::KeyValueCache>& caches,
                               std::int64_t past);
  void load_piece(BlockState& state, std::size_t parameter, std::int64_t begin,
                  std::span<const float> values);
  // Hands every piece of every trainable parameter to `visit` on all ranks; where states are sharded, `read`
  // fills it on the rank that owns it only.
  void visit_pieces(bool sharded,
                    const std::function<void(const BlockState&, ElementRange, std::span<float>)>& read,
                    const std::function<void(const Parameter&, std::int64_t, std::span<float>)>& visit);
  // Brings values in host memory from one rank to all.
  void share_from(int owner, std::span<float> values);
  void read_master(const BlockState& state, ElementRange range, std::span<float> values) const;

  std::size_t head_index() const { return states_.size() - 1; }
  bool tied() const { return model_.config.tied_embeddings; }
  // Whether a backward pass reaches block `index`: it is trainable, or one below it is.
  bool needs_backward(std::size_t index) const { return index >= lowest_trainable_; }

  Model& model_;
  EngineOptions options_;
  Communicator& communicator_;
  EngineStreams streams_;
  ops::RotaryTable rotary_;
  std::vector<BlockState> states_;  // embedding, layers, head
  std::size_t lowest_trainable_ = 0;
  std::optional<GradientReducer> reducer_;
  std::optional<WeightSource> weights_;
  std::optional<OptimizerStep> optimizer_;
  std::optional<ActivationStore> activations_;
  at::Tensor workspace_;
  at::Tensor squares_piece_;
  at::Tensor device_sums_;
  at::Tensor anchor_;
  std::vector<SavedLayer> saved_;
  EnginePhase phase_ = EnginePhase::construction;
  EnginePhase failed_phase_ = EnginePhase::construction;
  bool failed_ = false;  // out of memory since the ranks last agreed
  std::optional<OutOfMemory> last_out_of_memory_;
};

}  // namespace autoglm
