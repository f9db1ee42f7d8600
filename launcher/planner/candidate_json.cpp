#include "launcher/planner/candidate_json.h"

#include <nlohmann/json.hpp>

namespace autoglm {

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

}  // namespace autoglm
