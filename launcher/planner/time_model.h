// How long a step takes, from what it computes, moves and sends.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "launcher/planner/memory_model.h"
#include "sharding/strategy.h"

namespace autoglm {

// Speeds of one rank's device and of what connects it. Bytes and operations per second.
struct Rates {
  double matrix_flops = 0;           // that matrix products of the training precision reach
  double peak_flops = 0;             // of the data sheet, for MFU
  double matrix_half_tokens = 0;     // rows of a product at which it reaches half of that speed
  double memory_bandwidth = 0;       // elementwise work and the optimizer on the device
  double host_link_bandwidth = 0;    // between device and host, each way
  double host_memory_bandwidth = 0;  // this rank's share, for the optimizer on the host
  double link_bandwidth = 0;         // that a ring reaches per rank
  double link_latency = 0;           // seconds until a collective begins to move bytes
  double overlap = 1;                // share of communication that can hide behind compute
  double block_overhead = 0;         // seconds of a block's pass beyond the arithmetic
};

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
  double hidden(double moved, double compute) const;

  MemoryModel& memory_;
  Rates rates_;
  ModelWork work_;
};

}  // namespace autoglm
