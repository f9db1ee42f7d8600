#include "launcher/job/resume_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/json_fields.h"

namespace autoglm {
namespace {

// Where bytes live and what is shown, kept and written changes no weight. Paths may: what they lead to is compared
// by its contents.
constexpr std::array kWithoutEffect = std::to_array<std::string_view>({"model",
                                                                       "data",
                                                                       "output",
                                                                       "overwrite",
                                                                       "save-dtype",
                                                                       "save-every",
                                                                       "keep",
                                                                       "keep-best",
                                                                       "export",
                                                                       "checkpoint-dir",
                                                                       "resume",
                                                                       "allow-change",
                                                                       "stop-after",
                                                                       "strategy",
                                                                       "recompute",
                                                                       "recompute-layers",
                                                                       "offload-optimizer",
                                                                       "offload-activations",
                                                                       "weights",
                                                                       "master",
                                                                       "memory-limit",
                                                                       "on-oom",
                                                                       "evaluate-every",
                                                                       "sample",
                                                                       "log-every",
                                                                       "dry-run"});
// What of them a person sets goes; what is chosen comes from the checkpoint.
constexpr std::array kLastBits =
    std::to_array<std::string_view>({"micro-batch", "head-chunks", "products", "device", "gradient-dtype",
                                     "moment-dtype", "reduce", "reduce-scatter", "reduce-dtype"});

bool is_one_of(std::string_view name, const auto& names) {
  return std::ranges::find(names, name) != names.end();
}

ChangeEffect effect_of(std::string_view option) {
  if (is_one_of(option, kWithoutEffect)) return ChangeEffect::none;
  return is_one_of(option, kLastBits) ? ChangeEffect::last_bits : ChangeEffect::result;
}

// A validation set's tokens are among those that are compared, whatever file holds them.
bool are_both_files(std::string_view option, const nlohmann::ordered_json& before,
                    const nlohmann::ordered_json& now) {
  return option == "validation" && before.is_string() && now.is_string();
}

std::string text_of(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "not set";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

std::vector<OptionChange> option_changes(const nlohmann::ordered_json& before,
                                         const nlohmann::ordered_json& now) {
  std::vector<OptionChange> changes;
  for (const auto& [option, value] : now.items()) {
    const ChangeEffect effect = effect_of(option);
    if (effect == ChangeEffect::none || !before.contains(option) || before[option] == value) continue;
    if (are_both_files(option, before[option], value)) continue;
    changes.push_back({option, text_of(before[option]), text_of(value), effect});
  }
  return changes;
}

namespace {

// What the report goes on with (TrainingReport::so_far()).
void check_report(const JsonFields& report) {
  for (const char* const key : {"metrics_bytes", "tokens"}) report.bytes(key);
  for (const char* const key : {"first_loss", "last_loss", "first_validation_loss", "last_validation_loss"}) {
    if (!report.is_null(key)) report.number(key, 0);
  }
  if (report.is_null("seconds")) report.wrong("seconds", "a number");
  report.number("seconds", 0);
  report.is_null("memory_events");
}

}  // namespace

void check_training_record(const nlohmann::ordered_json& training, const std::string& source) {
  const nlohmann::json record = nlohmann::json::parse(training.dump());
  const JsonFields fields(record, source, "training.");
  fields.object("options").text("output");
  const JsonFields strategy = fields.object("strategy");
  strategy.positive("micro_batch");
  strategy.positive("head_chunks");
  for (const char* const key : {"data", "model"}) {
    const JsonFields one = fields.object(key);
    if (!one.has("fingerprint")) one.wrong("fingerprint", "a text");
    one.text("fingerprint", "");
    one.text("config", "");
  }
  for (const char* const key : {"epoch", "rows_done"}) fields.object("data").bytes(key);
  fields.text("products", "");
  if (fields.has("ranks")) fields.count("ranks");
  if (fields.has("report")) check_report(fields.object("report"));
  if (!fields.has("best")) return;
  const JsonFields best = fields.object("best");
  best.bytes("step");
  if (!best.has("validation_loss")) best.wrong("validation_loss", "a number");
  best.number("validation_loss", 0);
}

std::string describe_changes(const std::vector<OptionChange>& changes) {
  std::vector<std::string> sentences;
  for (const OptionChange& one : changes)
    sentences.push_back(fmt::format("--{} was {} and is {}", one.option, one.before, one.now));
  return fmt::format("{}", fmt::join(sentences, "; "));
}

void check_kinds(const Manifest& manifest, const std::string& source) {
  const auto dtype_of = [&](std::string_view name) -> std::optional<DType> {
    const auto found = std::ranges::find(manifest.kinds, name, &Manifest::Kind::name);
    return found == manifest.kinds.end() ? std::nullopt : std::optional(found->dtype);
  };
  const std::size_t expected = dtype_of("moment1") ? 3 : 1;
  if (dtype_of("master") == DType::float32 && dtype_of("moment1") == dtype_of("moment2") &&
      manifest.kinds.size() == expected)
    return;
  fail(ExitCode::bad_data, "{}: kinds of states must be master in F32 and, of one type, moment1 and moment2",
       source);
}

}  // namespace autoglm
