// Which processors this process may run on, and for how much of the time.
#pragma once

#include <bitset>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace autoglm {

// Logical processors by number; as many as the kernel can count.
using ProcessorSet = std::bitset<8192>;

// "0-3,8,10-11", as the kernel and taskset write it. What is no number is passed over.
ProcessorSet parse_processors(std::string_view list);
std::string format_processors(const ProcessorSet& processors);

// Those that the calling thread may run on: the affinity mask, which never exceeds the cpuset of its control
// group.
ProcessorSet allowed_processors();

// How many processors' time the process's own control group, or one above it, grants it; none without a
// quota. `root` stands before /proc and /sys: another host's, in tests.
std::optional<double> processor_quota(const std::filesystem::path& root = "/");

// Threads for one of the processes that share a host, at least 1: the processors that it may run on, each
// divided by the processes that may run there too, and no more than its part of the quota. `processes` are
// those of all of them, `mine` the place of this one's.
int threads_of_process(std::span<const ProcessorSet> processes, std::size_t mine,
                       std::optional<double> quota);

// Threads for this process, where it is alone on its processors.
int threads_of_this_process();

}  // namespace autoglm
