// How often checkpoints are written, and how many stay.
#pragma once

#include <cstdint>
#include <optional>

#include "launcher/options/saving_options.h"

namespace autoglm {

// --save-every with nothing automatic in it, and how many checkpoints stay: as many as the disk holds beside the model.
struct SavingPlan {
  SaveInterval interval;
  std::int64_t keep = 2;
};

struct SavingQuestion {
  double estimated_seconds = 0;        // of the training that is left
  std::uint64_t checkpoint_bytes = 0;  // of one
  std::uint64_t model_bytes = 0;       // of the model that is still to be written to the same folder
  std::optional<std::uint64_t> free;   // of the folder's file system; none where it does not say
  std::uint64_t replaced = 0;  // of the run's own checkpoints there, which new ones will take the place of
};

// Where the defaults do not fit it keeps fewer, or writes none, with a warning where the training that is left is
// estimated to be long enough for a checkpoint. Throws Error(cannot_create) where --save-every asks for what does not
// fit.
SavingPlan plan_saving(const SavingOptions& options, const SavingQuestion& question);

}  // namespace autoglm
