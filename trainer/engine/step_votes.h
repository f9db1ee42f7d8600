// What ranks decide together at a step's end.
#pragma once

#include <cstdint>

namespace autoglm {

// What ranks decide together at a step's end: how many of them ask for it. Rides on the step's sums.
struct StepVotes {
  // Ran out of memory since the last step's sums: if any did, the sums and gradients mean nothing, and the
  // step is void.
  std::int64_t out_of_memory = 0;
  std::int64_t save = 0;         // ask for a checkpoint of this step
  std::int64_t stop = 0;         // ask for the training to end after one
  std::int64_t saved = 0;        // have written what was asked for
  std::int64_t save_failed = 0;  // could not
};

}  // namespace autoglm
