// How long a step takes, from what it computes, moves and sends.
//
// On CUDA devices the passes of a layer and of the head take as long as the work that their rehearsal counts; on the
// CPU, whose routes declare nothing, as their products and what they keep suggest. What moves between ranks, host and
// device, and what the optimizer does, follows from the strategy.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "launcher/planner/memory_model.h"
#include "launcher/planner/rates.h"
#include "sharding/strategy.h"

namespace autoglm {

// Bytes per parameter that AdamW reads and writes: gradient 4, master or remainder and weight 4, moments 8, all
// but the gradient twice. The norm of the gradients reads them once more.
inline constexpr double kAdamWBytes = 28;
inline constexpr double kNormBytes = 4;

// Seconds of one optimizer step.
struct StepTime {
  double compute = 0;  // forward and backward without recompute
  double recompute = 0;
  double exposed = 0;  // communication and transfers that nothing hides
  double optimizer = 0;
  double total() const { return compute + recompute + exposed + optimizer; }
};

// What the arithmetic of the layers of one kind consists of, by layer.
struct LayerWork {
  std::int64_t number = 0;               // of the first of them in the model
  double count = 0;                      // how many there are
  double elements = 0;                   // of matrices
  double parameters = 0;                 // all of them
  double attention_flops_per_token = 0;  // of the forward pass in rows of full length
};

// What the arithmetic of a model consists of.
struct ModelWork {
  LayerNumbering kinds;           // by layer: which of those that follow
  std::vector<LayerWork> layers;  // by kind
  double head_elements = 0;
  double embedding_elements = 0;
  double num_parameters = 0;  // trained
  bool tied = false;

  // Of the kind of which there are most layers.
  const LayerWork& commonest_layer() const;

  // Operations of forward and backward per token without recompute: 6 per matrix element, and attention's.
  double flops_per_token() const;
};

ModelWork work_of(const MemoryQuestion& question);

class TimeModel {
 public:
  // `memory` must outlive the model; it tells what passes move and compute.
  TimeModel(MemoryModel& memory, const Rates& rates);

  // `num_micro_batches` on every rank.
  StepTime step(const Strategy& strategy, std::int64_t num_micro_batches);

  // Seconds of it that would be saved if ranks sent to each other in no time.
  double link_seconds(const Strategy& strategy, std::int64_t num_micro_batches);

  // Seconds of the passes of one micro-batch over a layer: without recompute, where the gradients are written and
  // not yet added to others.
  double layer_seconds(const LayerWork& layer, std::int64_t micro_batch);

  // Share of peak_flops that a step's arithmetic without recompute makes up.
  double model_flops_utilization(double tokens_per_second_per_rank) const;

  const Rates& rates() const { return rates_; }

 private:
  struct Pass {
    double forward = 0, backward = 0;
  };
  // The layers of one kind in a micro-batch.
  struct Passes {
    Pass plain, recomputing;  // of one layer
    double recomputing_layers = 0;
  };
  const Pass& pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level);
  Pass counted_pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level);
  Pass estimated_pass(const LayerWork& layer, std::int64_t micro_batch, Recompute level);
  std::vector<Passes> passes_of(const Strategy& strategy);
  double head_seconds(std::int64_t micro_batch, std::int64_t head_chunks);
  double counted_head_seconds(std::int64_t micro_batch, std::int64_t head_chunks);
  double estimated_head_seconds(std::int64_t micro_batch);
  double accumulation_seconds(const Strategy& strategy, double num_micro_batches) const;
  double exposed_seconds(const Strategy& strategy, std::span<const Passes> passes, double head);
  double optimizer_seconds(const Strategy& strategy) const;
  double ring_seconds(double bytes, double bandwidth) const;
  double gather_seconds(double bytes) const { return ring_seconds(bytes, rates_.link_bandwidth); }
  double reduce_seconds(const Strategy& strategy, double bytes) const;
  double hidden(double moved, double compute) const;
  std::int64_t tokens_of(std::int64_t micro_batch) const {
    return micro_batch * memory_.question().row_length;
  }
  bool counts() const { return memory_.question().target == ops::Target::cuda; }

  MemoryModel& memory_;
  Rates rates_;
  ModelWork work_;
  std::map<std::tuple<std::int64_t, std::int64_t, Recompute>, Pass>
      passes_;                                                     // by layer, micro-batch and level
  std::map<std::pair<std::int64_t, std::int64_t>, double> heads_;  // by micro-batch and chunks
};

}  // namespace autoglm
