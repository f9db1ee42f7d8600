// A candidate of the search as programs read it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "launcher/planner/search.h"

namespace autoglm {

// Tokens per second over all ranks that a candidate should reach.
double tokens_per_second(const Candidate& candidate, const MemoryQuestion& question,
                         std::int64_t global_batch);

// "{"strategy": "zero2", "recompute": "full", ...}": every part of a strategy, spelled as the options are.
nlohmann::ordered_json to_json(const Strategy& strategy);

// Strategy, bytes by category and phase, estimated seconds by kind, what is missing.
nlohmann::ordered_json to_json(const Candidate& candidate, const MemoryQuestion& question,
                               std::int64_t global_batch);

// What a peak consisted of: categories that hold nothing are left out.
nlohmann::ordered_json bytes_by_category(const MemoryUse& use);

}  // namespace autoglm
