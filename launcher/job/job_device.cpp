#include "launcher/job/job_device.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>

#include "base/math.h"
#include "base/units.h"
#include "launcher/planner/configs_folder.h"
#include "launcher/planner/rates.h"
#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

// LibTorch loads kernels when they are first used.
constexpr std::int64_t kKernelBytes = std::int64_t{512} << 20;
// A context takes less on all devices.
constexpr std::int64_t kLargestContext = std::int64_t{1} << 30;

void check_memory_limit(std::int64_t limit) {
  if (limit < (std::int64_t{1} << 20)) {
    fail(ExitCode::usage, "--memory-limit {} is too small for any model; give at least 1MiB",
         format_bytes(limit));
  }
}

}  // namespace

std::int64_t device_limit(std::int64_t free, std::int64_t backed, int num_sharers) {
  return std::max(backed + free / num_sharers - kKernelBytes, std::int64_t{1} << 20);
}

std::int64_t bytes_of_others(std::int64_t used, int num_sharers) {
  return used > num_sharers * kLargestContext ? used : 0;
}

std::string host_name() {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  return host;
}

JobDevice::JobDevice(const JobDeviceOptions& options, const LocalRank& local, Communicator& control)
    : ranks_per_node_(local.size), communicator_(&control) {
  const CudaProbe found = find_cuda();
  const std::optional<int> cuda = run_agreed(control, [&]() -> std::optional<int> {
    if (options.memory_limit) check_memory_limit(*options.memory_limit);
    if (!choose_cuda(options.device, found)) return std::nullopt;
    return choose_cuda_device(local.rank, local.size, found.num_devices);
  });
  check_same(control, "the kind of device", cuda ? "cuda" : "cpu");
  if (cuda) {
    start_cuda(*cuda, options, control);
  } else {
    install_job_memory(options.memory_limit);
  }
}

void JobDevice::start_cuda(int index, const JobDeviceOptions& options, Communicator& control) {
  device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  const StartedDevice started = run_agreed(control, [&] { return start_cuda_device(index); });
  model_ = started.model;
  name_ = fmt::format("cuda:{} {}", index, model_);
  // Ranks that use the same device of the same host, this one included.
  const std::string place = host_name() + "/" + started.bus_id;
  const auto sharers = static_cast<int>(std::ranges::count(gather_text(control, place), place));
  const auto [free, total] = started.bytes;
  if (const std::int64_t others = bytes_of_others(total - free, sharers); others > 0) {
    spdlog::warn("rank {}: other programs hold about {} of the {} of {}", control.rank(),
                 format_bytes(others), format_bytes(total), name_);
  }
  const std::int64_t wanted = options.memory_limit.value_or(started.bytes.free);
  run_agreed(control,
             [&] { install_cuda_arenas(index, std::min(wanted, started.bytes.free), options.num_threads); });
  connection_ = connect_cuda_device(index, control);
  communicator_ = connection_.communicator.get();
  limit_to_what_is_free(options, control, sharers);
}

// With NCCL connected and cuBLAS started on all ranks, what is free now is there for tensors.
void JobDevice::limit_to_what_is_free(const JobDeviceOptions& options, Communicator& control, int sharers) {
  run_agreed(control, [&] { start_cuda_products(device_.index()); });
  const std::int64_t limit = run_agreed(
      control, [&] { return device_limit(cuda_bytes_now().free, job_memory().device().backed(), sharers); });
  if (options.memory_limit && *options.memory_limit > limit) {
    spdlog::warn("rank {}: --memory-limit {} is more than the {} that {} has left for tensors",
                 control.rank(), format_bytes(*options.memory_limit), format_bytes(limit), name_);
  }
  run_agreed(control,
             [&] { job_memory().device().set_limit(std::min(options.memory_limit.value_or(limit), limit)); });
}

std::int64_t JobDevice::fixed_bytes() const {
  if (!is_cuda()) return 0;
  const DeviceBytes now = cuda_bytes_now();
  return now.total - now.free - job_memory().device().backed();
}

std::int64_t JobDevice::backed_bytes_for(std::int64_t extent) const {
  if (!is_cuda()) return extent;
  return round_up(extent, kCudaMemoryPiece);
}

Rates JobDevice::guessed_rates(int world_size, Precision precision) const {
  if (!is_cuda()) return guessed_cpu_rates();
  const std::filesystem::path folder = configs_folder();
  const std::vector<HardwareProfile> profiles = load_hardware_profiles(folder / "hardware");
  const HardwareProfile* profile = find_hardware_or_null(profiles, model_);
  if (profile == nullptr) return unknown_cuda_rates();
  const std::vector<LinkProfile> links = load_links(folder / "links.json");
  const ClusterShape shape{world_size, divide_up(world_size, ranks_per_node_)};
  return rates_of(*profile, shape, find_link(links, profile->node_link), precision);
}

}  // namespace autoglm
