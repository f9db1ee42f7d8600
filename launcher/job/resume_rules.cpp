#include "launcher/job/resume_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

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
    changes.push_back({option, text_of(before[option]), text_of(value), effect});
  }
  return changes;
}

std::string describe_changes(const std::vector<OptionChange>& changes) {
  std::vector<std::string> sentences;
  for (const OptionChange& one : changes)
    sentences.push_back(fmt::format("--{} was {} and is {}", one.option, one.before, one.now));
  return fmt::format("{}", fmt::join(sentences, "; "));
}

}  // namespace autoglm
