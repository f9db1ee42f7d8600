#include "launcher/planner/plan_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/units.h"

namespace autoglm {
namespace {

// The kind of time in which `other` loses most.
std::string_view slowest_part(const StepTime& other, const StepTime& chosen) {
  const std::pair<double, std::string_view> parts[] = {
      {other.compute - chosen.compute, "smaller micro-batches"},
      {other.recompute - chosen.recompute, "recompute"},
      {other.exposed - chosen.exposed, "communication and transfers"},
      {other.optimizer - chosen.optimizer, "the optimizer's step"}};
  return std::max_element(std::begin(parts), std::end(parts))->second;
}

}  // namespace

double tokens_per_second(const Candidate& candidate, const MemoryQuestion& question,
                         std::int64_t global_batch) {
  return static_cast<double>(global_batch * question.row_length) / candidate.time.total();
}

nlohmann::ordered_json bytes_by_category(const MemoryUse& use) {
  nlohmann::ordered_json bytes = nlohmann::ordered_json::object();
  for (std::size_t i = 0; i < kNumMemoryCategories; ++i) {
    const auto category = static_cast<MemoryCategory>(i);
    if (use[category] > 0) bytes[std::string(category_name(category))] = use[category];
  }
  return bytes;
}

nlohmann::ordered_json to_json(const Strategy& strategy) {
  nlohmann::ordered_json object;
  each_field([&](auto field) {
    const auto value = strategy.*field.value;
    auto& place = object[std::string(field.name)];
    if (field.words.empty())
      place = value;
    else
      place = word_of(field.words, value);
  });
  return object;
}

nlohmann::ordered_json to_json(const Candidate& candidate, const MemoryQuestion& question,
                               std::int64_t global_batch) {
  nlohmann::ordered_json object = to_json(candidate.strategy);
  object["fits"] = candidate.fits();
  object["device_bytes"] = candidate.price.device.total;
  object["device_bytes_by_category"] = bytes_by_category(candidate.price.device);
  object["device_peak_phase"] = phase_name(candidate.price.device_phase);
  object["host_bytes"] = candidate.price.host.total;
  object["host_bytes_by_category"] = bytes_by_category(candidate.price.host);
  object["device_bytes_missing"] = candidate.device_missing;
  object["host_bytes_missing"] = candidate.host_missing;
  object["micro_batches"] = candidate.num_micro_batches;
  object["estimated_step_seconds"] = candidate.time.total();
  object["estimated_seconds"] = {{"compute", candidate.time.compute},
                                 {"recompute", candidate.time.recompute},
                                 {"exposed", candidate.time.exposed},
                                 {"optimizer", candidate.time.optimizer}};
  object["estimated_tokens_per_second"] = tokens_per_second(candidate, question, global_batch);
  return object;
}

std::string reason_lost(const Candidate& other, const Candidate& chosen) {
  if (other.device_missing > 0)
    return fmt::format(
        "needs {} more on the device ({}){}", format_bytes(other.device_missing),
        phase_name(other.price.device_phase),
        other.host_missing > 0 ? fmt::format(" and {} on the host", format_bytes(other.host_missing)) : "");
  if (other.host_missing > 0)
    return fmt::format("needs {} more on the host", format_bytes(other.host_missing));
  const double slower = other.time.total() / chosen.time.total() - 1;
  if (slower <= -0.005)
    return fmt::format("{:.0f} % faster, and leans more on the host", std::max(1.0, -100 * slower));
  if (slower < 0.005) return "as fast, and needs more memory";
  return fmt::format("{:.0f} % slower: {}", std::max(1.0, 100 * slower),
                     slowest_part(other.time, chosen.time));
}

}  // namespace autoglm
