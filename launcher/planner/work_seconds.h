// How long counted work takes at given speeds.
#pragma once

#include <cstdint>

#include "launcher/planner/rates.h"
#include "sharding/work.h"

namespace autoglm {

// Whether it is done by the device itself, not by the host or a link beside it.
bool on_device(WorkKind kind);

// Seconds of a kind of work with nothing beside it: the arithmetic or the bytes of the memory or link concerned,
// whichever takes longer. Products are of `tokens` rows.
double seconds_of(WorkKind kind, const Work& work, std::int64_t tokens, const Rates& rates);

// Seconds of all that the device itself does, one kind after the other, and of starting its kernels.
double device_seconds(const WorkCount& count, std::int64_t tokens, const Rates& rates);

}  // namespace autoglm
