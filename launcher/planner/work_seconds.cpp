#include "launcher/planner/work_seconds.h"

#include <algorithm>

namespace autoglm {

bool on_device(WorkKind kind) {
  switch (kind) {
    case WorkKind::host_optimizer:
    case WorkKind::gathers:
    case WorkKind::reductions:
    case WorkKind::uploads:
    case WorkKind::downloads:
      return false;
    default:
      return true;
  }
}

double seconds_of(WorkKind kind, const Work& work, std::int64_t tokens, const Rates& rates) {
  const auto bytes = static_cast<double>(work.bytes());
  switch (kind) {
    case WorkKind::host_optimizer:
      return bytes / rates.host_memory_bandwidth;
    case WorkKind::gathers:
      return static_cast<double>(work.written) / rates.link_bandwidth;
    case WorkKind::reductions:
      return static_cast<double>(work.written) / rates.message_bandwidth;
    case WorkKind::uploads:
    case WorkKind::downloads:
      return static_cast<double>(work.written) / rates.host_link_bandwidth;
    default:
      return std::max(bytes / rates.memory_bandwidth,
                      static_cast<double>(work.operations) / rates.product_speed(tokens));
  }
}

double device_seconds(const WorkCount& count, std::int64_t tokens, const Rates& rates) {
  double seconds = 0;
  for (std::size_t i = 0; i < kNumWorkKinds; ++i) {
    const auto kind = static_cast<WorkKind>(i);
    if (!on_device(kind)) continue;
    seconds += seconds_of(kind, count[kind], tokens, rates) +
               static_cast<double>(count[kind].launches) * rates.launch_overhead;
  }
  return seconds;
}

}  // namespace autoglm
