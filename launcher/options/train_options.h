// Everything that a person may set for autoglm-train, with its defaults.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "launcher/options/option_table.h"
#include "launcher/options/saving_options.h"
#include "launcher/options/strategy_options.h"
#include "trainer/data/data_options.h"
#include "trainer/loop_options.h"

namespace autoglm {

struct TrainingOptions {
  LoopOptions loop;  // its length is settled after parsing
  Precision precision = Precision::bf16;
  std::vector<std::string> freeze;  // patterns of parameter names that stay as they are
  std::uint64_t seed = 42;          // DataOptions::seed is the same
};

struct WatchingOptions {
  std::vector<std::string> samples;  // prompts
  std::int64_t log_every = 10;       // steps between progress lines where no line can be redrawn
  bool dry_run = false;
};

struct TrainOptions {
  std::filesystem::path model;
  std::filesystem::path output;
  DataOptions data;
  TrainingOptions training;
  StrategyOptions strategy;
  SavingOptions saving;
  WatchingOptions watching;
};

// The command line of autoglm-train.
class TrainCommandLine {
 public:
  TrainCommandLine();

  // `arguments` without the program's name. Settles what options say together. Contradictions are an
  // Error(usage) that names both sides; where one side comes from the command line and the other from the
  // file of --config, the command line wins instead.
  OptionRequest parse(const std::vector<std::string>& arguments);

  const TrainOptions& options() const { return options_; }
  std::string help(std::size_t columns = 100) const { return table_.help(columns); }

 private:
  TrainOptions options_;
  OptionTable table_;
};

// Every option with its value, spelled as on the command line, for run.json.
nlohmann::ordered_json to_json(const TrainOptions& options);

}  // namespace autoglm
