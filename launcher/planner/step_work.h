// What a step moves and computes on one rank, counted in its rehearsal.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "launcher/planner/memory_model.h"
#include "sharding/work.h"

namespace autoglm {

struct StepWork {
  std::int64_t layer = 0;   // whose passes are looked at: one in the middle of the model
  std::int64_t tokens = 0;  // of a micro-batch
  // Of that layer, in the first micro-batch of a step and in a later one.
  WorkCount forward, backward, later_backward;
  WorkCount head;  // of the first micro-batch
  WorkCount step;  // everything, the optimizer too
};

// A step of `num_micro_batches` on one rank: of those after the second, which are like it, none is rehearsed.
StepWork count_step(const MemoryModel& memory, const Strategy& strategy, std::int64_t num_micro_batches);

// Passes over activations that multiply no matrices: norms, rotary embedding, activation functions, residuals,
// and fp32 sums of products.
Work elementwise_work(const WorkCount& count);

}  // namespace autoglm
