// What the ranks of a job tell each other of themselves.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "launcher/job/job_device.h"
#include "launcher/report/metrics.h"
#include "sharding/communicator.h"

namespace autoglm {

// One object per rank for run.json: its host, its number there, and its device. Collective.
nlohmann::ordered_json describe_ranks(Communicator& communicator, int local_rank, const JobDevice& device);

// The highest resident memory since the last call (or since the start), the largest among all ranks; begins a
// new phase. Collective.
std::int64_t take_resident_peak(Communicator& communicator);

// Memory until now, and what the step waited. Collective.
RankExtremes largest_of_ranks(Communicator& communicator, const StepReport& step);

}  // namespace autoglm
