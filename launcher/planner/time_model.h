// How long a step takes, from what it computes, moves and sends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launcher/planner/memory_model.h"
#include "launcher/planner/rates.h"
#include "sharding/strategy.h"

namespace autoglm {

// Bytes per parameter that AdamW reads and writes: gradient 4, master or remainder and weight 4, moments 8, all
// but the gradient twice.
inline constexpr double kAdamWBytes = 28;

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
  // `memory` must outlive the model; it tells how many bytes elementwise work moves.
  TimeModel(MemoryModel& memory, const Rates& rates);

  // `num_micro_batches` on every rank.
  StepTime step(const Strategy& strategy, std::int64_t num_micro_batches);

  // Share of peak_flops that a step's arithmetic without recompute makes up.
  double model_flops_utilization(double tokens_per_second_per_rank) const;

  const Rates& rates() const { return rates_; }

 private:
  struct Pass {
    double forward = 0, backward = 0;
  };
  // Seconds of one micro-batch; `passes` are those of a layer of each kind.
  Pass layer_pass(const LayerWork& layer, std::int64_t micro_batch);
  double head_seconds(std::int64_t micro_batch);
  double recompute_seconds(const Strategy& strategy, std::span<const Pass> passes);
  double exposed_seconds(const Strategy& strategy, std::span<const Pass> passes, double head);
  double optimizer_seconds(const Strategy& strategy) const;
  double ring_seconds(double bytes) const;
  double reduce_seconds(const Strategy& strategy, double bytes) const;
  double hidden(double moved, double compute) const;

  MemoryModel& memory_;
  Rates rates_;
  ModelWork work_;
};

}  // namespace autoglm
