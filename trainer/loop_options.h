// What a person sets about the steps of a training.
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/optim/adamw_settings.h"
#include "trainer/optim/schedule.h"

namespace autoglm {

struct LoopOptions {
  // Exactly one of the two.
  std::optional<std::int64_t> epochs = 3;
  std::optional<std::int64_t> steps;
  std::int64_t global_batch = 16;   // rows of a step over all ranks
  std::int64_t evaluate_every = 0;  // steps; 0: before the first step, after each epoch and at the end only
  double clip = 1.0;                // largest global gradient norm; 0: no clipping
  ScheduleOptions schedule;
  AdamWSettings adamw;
};

}  // namespace autoglm
