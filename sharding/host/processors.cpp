#include "sharding/host/processors.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <thread>
#include <vector>

#include "sharding/host/control_groups.h"

namespace autoglm {
namespace {

// CPU time in microseconds per period: "quota period", or two files of one number each.
std::optional<double> quota_of(const ControlGroup& group) {
  std::optional<std::int64_t> quota, period;
  if (group.unified) {
    std::istringstream line(read_kernel_line(group.folder / "cpu.max").value_or(""));
    std::string first, second;
    line >> first >> second;
    quota = parse_kernel_number(first);
    period = parse_kernel_number(second);
  } else {
    quota = group.number("cpu.cfs_quota_us");
    period = group.number("cpu.cfs_period_us");
  }
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

}  // namespace

ProcessorSet parse_processors(std::string_view list) {
  ProcessorSet processors;
  std::istringstream stream{std::string(list)};
  for (std::string part; std::getline(stream, part, ',');) {
    std::size_t first = 0, last = 0;
    const char *begin = part.data() + std::min(part.find_first_not_of(" \t"), part.size()),
               *end = part.data() + part.size();
    const auto [after, status] = std::from_chars(begin, end, first);
    if (status != std::errc()) continue;
    last = first;
    if (after != end && *after == '-') std::from_chars(after + 1, end, last);
    for (std::size_t i = first; i <= last && i < processors.size(); ++i) processors.set(i);
  }
  return processors;
}

std::string format_processors(const ProcessorSet& processors) {
  std::string text;
  for (std::size_t i = 0; i < processors.size(); ++i) {
    if (!processors[i]) continue;
    std::size_t last = i;
    while (last + 1 < processors.size() && processors[last + 1]) ++last;
    if (!text.empty()) text += ',';
    text += last == i ? fmt::format("{}", i) : fmt::format("{}-{}", i, last);
    i = last;
  }
  return text;
}

ProcessorSet allowed_processors() {
  ProcessorSet processors;
  std::vector<cpu_set_t> mask(ProcessorSet().size() / CPU_SETSIZE);
  const std::size_t bytes = mask.size() * sizeof(cpu_set_t);
  if (sched_getaffinity(0, bytes, mask.data()) == 0) {
    for (std::size_t i = 0; i < processors.size(); ++i) processors[i] = CPU_ISSET_S(i, bytes, mask.data());
  } else {
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) processors.set(i);
  }
  return processors;
}

std::optional<double> processor_quota(const std::filesystem::path& root) {
  std::optional<double> least;
  for (const ControlGroup& group : own_control_groups("cpu", root)) {
    const std::optional<double> quota = quota_of(group);
    if (quota && (!least || *quota < *least)) least = quota;
  }
  return least;
}

int threads_of_process(std::span<const ProcessorSet> processes, std::size_t mine,
                       std::optional<double> quota) {
  double share = 0;
  for (std::size_t i = 0; i < processes[mine].size(); ++i) {
    if (!processes[mine][i]) continue;
    const auto sharers =
        std::ranges::count_if(processes, [&](const ProcessorSet& other) { return other[i]; });
    share += 1.0 / static_cast<double>(sharers);
  }
  if (quota) share = std::min(share, *quota / static_cast<double>(processes.size()));
  // Thirds add up to a little less than one.
  return std::max(1, static_cast<int>(std::floor(share + 1e-6)));
}

int threads_of_this_process() {
  const ProcessorSet mine = allowed_processors();
  return threads_of_process(std::span(&mine, 1), 0, processor_quota());
}

}  // namespace autoglm
