// The options that say what is written, when, and what an interrupted run does when it is started again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "launcher/options/option_table.h"

namespace autoglm {

// When checkpoints are written. Nothing set: never.
struct SaveInterval {
  bool automatic = true;  // every 15 minutes, where there is room
  std::optional<std::int64_t> steps;
  std::optional<double> seconds;

  bool operator==(const SaveInterval&) const = default;
};

enum class ExportedWeights { last, best };

struct SavingOptions {
  bool overwrite = false;
  std::optional<DType> save_dtype;  // each tensor keeps the dtype it was read in when not set
  SaveInterval save_every;
  std::int64_t keep = 2;
  bool keep_best = false;
  ExportedWeights exported = ExportedWeights::last;
  std::filesystem::path checkpoint_dir;    // empty: the output folder
  std::string resume = "auto";             // or "never", or the folder of a checkpoint
  std::vector<std::string> allow_changes;  // names of options that may differ from the checkpoint's
  std::optional<double> stop_after;        // seconds
};

void bind_saving_options(OptionTable& table, SavingOptions& saving);

// Throws Error(usage) where saving options contradict each other or what else is set: `validates` says whether
// there is a validation set.
void check_saving_options(const OptionTable& table, const SavingOptions& saving, bool validates);

}  // namespace autoglm
