// The command line of autoglm-export.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "launcher/options/option_table.h"

namespace autoglm {

// The dtype of written weights, as --save-dtype says it.
struct SavedAs {
  bool as_the_job = true;
  std::optional<DType> dtype = {};  // as read where not set

  bool operator==(const SavedAs&) const = default;
};

struct ExportOptions {
  // Exactly one of them is given. A checkpoint, or a folder with checkpoints or of a run.
  std::filesystem::path checkpoint, verify, list;
  std::filesystem::path output;
  std::filesystem::path model;  // empty: the one that the checkpoint names
  SavedAs saved_as;
  bool json = false;
};

class ExportCommandLine {
 public:
  ExportCommandLine();

  // `arguments` without the program's name. Throws Error(usage), also for options that contradict each other.
  OptionRequest parse(const std::vector<std::string>& arguments);

  const ExportOptions& options() const { return options_; }
  std::string help(std::size_t columns) const { return table_.help(columns); }

 private:
  ExportOptions options_;
  OptionTable table_;
};

}  // namespace autoglm
