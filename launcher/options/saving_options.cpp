#include "launcher/options/saving_options.h"

#include <fmt/core.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest_name.h"
#include "base/units.h"

namespace autoglm {
namespace {

constexpr std::int64_t kLongestInterval = 1'000'000'000;
constexpr std::int64_t kMostKept = 1000;

// As it was written: seconds come back as a whole number where they are one.
std::string seconds_text(double seconds) {
  return fmt::format("{}s", seconds);
}

std::string interval_text(const SaveInterval& interval) {
  if (interval.automatic) return "auto";
  if (interval.steps) return std::to_string(*interval.steps);
  return interval.seconds ? seconds_text(*interval.seconds) : "never";
}

SaveInterval parse_interval(std::string_view text, std::string_view spelled) {
  if (text == "auto") return {};
  SaveInterval interval{false, {}, {}};
  if (text == "never") return interval;
  std::int64_t steps = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
  if (error == std::errc() && end == text.data() + text.size()) {
    if (steps < 1 || steps > kLongestInterval)
      refuse_value(spelled, "steps from 1 on, a duration such as 15m, auto or never", text);
    interval.steps = steps;
  } else {
    interval.seconds = parse_duration(text, spelled).count();
  }
  return interval;
}

Option interval_option(SaveInterval& interval) {
  Option option{"save-every", "STEPS|DURATION", "checkpoints; auto: 15m; or never", "auto"};
  option.assign = [&interval](std::string_view text, std::string_view spelled) {
    interval = parse_interval(text, spelled);
  };
  option.store = [&interval](nlohmann::ordered_json& object) {
    object["save-every"] = interval_text(interval);
  };
  return option;
}

Option stop_option(std::optional<double>& seconds) {
  Option option{"stop-after", "DURATION", "save and exit with 75 then, to be started again", ""};
  option.assign = [&seconds](std::string_view text, std::string_view spelled) {
    seconds = parse_duration(text, spelled).count();
  };
  option.store = [&seconds](nlohmann::ordered_json& object) {
    if (seconds)
      object["stop-after"] = seconds_text(*seconds);
    else
      object["stop-after"] = nullptr;
  };
  return option;
}

}  // namespace

void bind_saving_options(OptionTable& table, SavingOptions& saving) {
  table.begin_group("Saving");
  table.add_flag("overwrite", saving.overwrite, "replace a finished run, once the new model is written");
  table.add_choice<std::optional<DType>>("save-dtype", saving.save_dtype,
                                         {{"input", std::nullopt},
                                          {"fp32", DType::float32},
                                          {"bf16", DType::bfloat16},
                                          {"fp16", DType::float16}},
                                         "dtype of the written weights; input: as read");
  table.add(interval_option(saving.save_every));
  table.add_integer("keep", saving.keep, {1, kMostKept}, "newest checkpoints that stay");
  table.add_flag("keep-best", saving.keep_best, "also the one with the lowest validation loss");
  table.add_choice<ExportedWeights>("export", saving.exported,
                                    {{"last", ExportedWeights::last}, {"best", ExportedWeights::best}},
                                    "weights that are written at the end");
  table.add_path("checkpoint-dir", "DIR", saving.checkpoint_dir,
                 "folder for checkpoints that every rank sees, not --output");
  table.add_text("resume", "auto|never|DIR", saving.resume, "checkpoint to go on from; auto: the newest one");
  table.add_texts("allow-change", "OPTION", saving.allow_changes,
                  "may differ from the checkpoint's; may be repeated");
  table.add(stop_option(saving.stop_after));
}

void check_saving_options(const OptionTable& table, const SavingOptions& saving, bool validates) {
  const bool best = saving.keep_best || saving.exported == ExportedWeights::best;
  if (best && !validates)
    fail(ExitCode::usage, "{} goes by the validation loss; give --validation",
         table.spelled(saving.keep_best ? "keep-best" : "export"));
  if (saving.exported == ExportedWeights::best && !saving.keep_best)
    fail(ExitCode::usage, "{} best needs the checkpoint that --keep-best keeps; give that too",
         table.spelled("export"));
  for (const std::string& name : saving.allow_changes) {
    if (table.has(name) && name != "freeze") continue;
    if (name == "freeze")
      fail(ExitCode::usage,
           "{} freeze is not possible: a checkpoint holds the parameters that its run trained",
           table.spelled("allow-change"));
    const std::optional<std::string> nearest = nearest_name(name, table.names());
    fail(ExitCode::usage, "{} {} names no option{}", table.spelled("allow-change"), name,
         nearest ? fmt::format("; did you mean {}?", *nearest) : "");
  }
  if (saving.resume.empty())
    fail(ExitCode::usage, "{} is empty; give auto, never or the folder of a checkpoint",
         table.spelled("resume"));
}

}  // namespace autoglm
