// What a probe times on one rank.
#pragma once

#include <cstdint>

#include "launcher/planner/time_model.h"
#include "sharding/communicator.h"

namespace autoglm {

// Seconds, and bytes a second; 0 where nothing was timed.
struct ProbeTimes {
  std::int64_t micro_batch = 1, row_length = 1;
  double layer = 0;           // forward and backward of one
  double optimizer = 0;       // AdamW of that layer, on the device
  double host_optimizer = 0;  // bytes a second of AdamW in host memory
  double gathers = 0;         // bytes a second that a rank sends to gather
  double reductions = 0;      // the same to add up
  double host_link = 0;       // bytes a second of the slower of both ways
  bool out_of_memory = false;
};

// A micro-batch of whole rows on a CUDA device, where fewer than 4096 tokens would time weights and launches; on the
// CPU part of a row, which takes a second or two at most on a slow one.
ProbeTimes probe_shape(const LayerWork& layer, std::int64_t row_length, bool cuda);

// Trains one layer and times its passes and AdamW on its parameters: after a brief step to warm up, on a CUDA device the
// median of five; the second of two brief ones on the CPU, and where the five would take long on any rank, as on a
// device that is emulated. Collective; `times` tells what was timed, or that this rank's memory was not enough.
void time_layer(const MemoryQuestion& question, std::int64_t layer, at::Device device,
                Communicator& communicator, ProbeTimes& times);

// Collectives: of 8 MB in host memory, of 256 MB between devices. Collective.
void time_collectives(Communicator& communicator, at::Device device, ProbeTimes& times);

// Copies between a CUDA device and its host, and AdamW in host memory, on all ranks at a time. Collective.
void time_host(Communicator& communicator, at::Device device, ProbeTimes& times);

}  // namespace autoglm
