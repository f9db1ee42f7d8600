// How long a step takes, from what it computes, moves and sends.
#pragma once

#include <cstdint>

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

// What the arithmetic of a model consists of.
struct ModelWork {
  double layer_elements = 0;    // of matrices in one decoder layer
  double layer_parameters = 0;  // all of them
  double head_elements = 0;
  double embedding_elements = 0;
  double attention_flops_per_token = 0;  // of one layer's forward pass in rows of full length
  std::int64_t num_layers = 0;
  double num_parameters = 0;  // trained
  bool tied = false;

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

  // Seconds of a decoder layer's forward and backward pass together, without recompute, and of the head's.
  double layer_seconds(std::int64_t micro_batch);
  double head_seconds(std::int64_t micro_batch);

  // Share of peak_flops that a step's arithmetic without recompute makes up.
  double model_flops_utilization(double tokens_per_second_per_rank) const;

  const Rates& rates() const { return rates_; }

 private:
  struct Pass {
    double forward = 0, backward = 0;
  };
  Pass layer_pass(std::int64_t micro_batch);
  double recompute_seconds(const Strategy& strategy, const Pass& layer);
  double exposed_per_micro_batch(const Strategy& strategy, const Pass& layer, double head);
  double optimizer_seconds(const Strategy& strategy) const;
  double ring_seconds(double bytes) const;
  double hidden(double moved, double compute) const;

  MemoryModel& memory_;
  Rates rates_;
  ModelWork work_;
};

}  // namespace autoglm
