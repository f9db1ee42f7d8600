#include "launcher/job/ranks.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

// Largest resident memory of this process so far, from the kernel.
std::int64_t resident_peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

}  // namespace

nlohmann::ordered_json describe_ranks(Communicator& communicator, int local_rank, const JobDevice& device) {
  const nlohmann::ordered_json mine = {
      {"host", host_name()}, {"pid", ::getpid()}, {"local_rank", local_rank}, {"device", device.name()}};
  nlohmann::ordered_json ranks = nlohmann::ordered_json::array();
  for (const std::string& one : gather_text(communicator, mine.dump()))
    ranks.push_back(nlohmann::ordered_json::parse(one));
  return ranks;
}

std::int64_t take_resident_peak(Communicator& communicator) {
  const std::int64_t peak = most(communicator, resident_peak_bytes());
  // 5 resets the kernel's high-water mark (proc(5)); where that is not allowed, phases keep earlier peaks.
  std::ofstream("/proc/self/clear_refs") << "5";
  return peak;
}

RankExtremes largest_of_ranks(Communicator& communicator, const StepReport& step) {
  RankExtremes largest{job_memory().statistics().device.peak.total, resident_peak_bytes(),
                       step.exposed_seconds};
  for (const RankExtremes& one : gather(communicator, largest)) {
    largest.device_peak_bytes = std::max(largest.device_peak_bytes, one.device_peak_bytes);
    largest.host_peak_bytes = std::max(largest.host_peak_bytes, one.host_peak_bytes);
    largest.exposed_seconds = std::max(largest.exposed_seconds, one.exposed_seconds);
  }
  return largest;
}

}  // namespace autoglm
