// What all arenas say alike.
#pragma once

#include <string_view>

#include "sharding/memory/arena.h"

namespace autoglm {

// Throws OutOfMemory: `bytes` of the calling thread's category do not fit on `where` ("the CPU"); `reason`
// when it is not the limit.
[[noreturn]] void throw_out_of_memory(const Placement& placement, std::int64_t bytes, std::string_view where,
                                      std::string_view reason = {});

ArenaStatistics statistics_of(const Placement& placement);

}  // namespace autoglm
