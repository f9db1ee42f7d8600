#include "launcher/job/job_device.h"

#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/math.h"
#include "base/units.h"
#include "launcher/planner/configs_folder.h"
#include "launcher/planner/rates.h"
#include "sharding/agree.h"
#include "sharding/host/binding.h"
#include "sharding/host/processors.h"
#include "sharding/memory/category.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

// LibTorch loads kernels when they are first used: all of them, and those that one layer's step has not used.
constexpr std::int64_t kKernelBytes = std::int64_t{512} << 20;
constexpr std::int64_t kLateKernelBytes = std::int64_t{192} << 20;
// A context takes less on all devices.
constexpr std::int64_t kLargestContext = std::int64_t{1} << 30;

void check_memory_limit(std::int64_t limit) {
  if (limit < (std::int64_t{1} << 20)) {
    fail(ExitCode::usage, "--memory-limit {} is too small for any model; give at least 1MiB",
         format_bytes(limit));
  }
}

// Moves this rank's threads near its card, and returns how many of them there should be then. Collective.
int threads_near_card(const std::string& bus_id, int ranks_per_node, int before, Communicator& control) {
  const auto variable = [](const char* name) { return std::getenv(name); };
  const ProcessorSet bound = allowed_processors();
  const std::string warning = bind_near_card(bus_id, ranks_per_node, variable);
  if (!warning.empty()) spdlog::warn("rank {}: {}", control.rank(), warning);
  const ProcessorSet mine = allowed_processors();
  const std::vector<std::string> hosts = gather_text(control, host_name());
  const std::vector<ProcessorSet> all = gather(control, mine);
  if (most(control, mine == bound ? 0 : 1) == 0 || variable("OMP_NUM_THREADS") != nullptr) return before;
  std::vector<ProcessorSet> here{mine};
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (static_cast<int>(rank) != control.rank() && hosts[rank] == host_name()) here.push_back(all[rank]);
  }
  const int threads = least(control, threads_of_process(here, 0, processor_quota()));
  at::set_num_threads(threads);
  return threads;
}

// Collective.
DeviceSharers agree_on_sharers(Communicator& control, const DevicePlace& mine) {
  const std::vector<std::string> hosts = gather_text(control, mine.host);
  const std::vector<std::string> cards = gather_text(control, mine.card);
  const std::vector<std::string> devices = gather_text(control, mine.device);
  std::vector<DevicePlace> all;
  for (std::size_t i = 0; i < hosts.size(); ++i) all.push_back({hosts[i], cards[i], devices[i]});
  return count_sharers(all, static_cast<std::size_t>(control.rank()));
}

}  // namespace

std::int64_t device_limit(std::int64_t free, std::int64_t backed, int num_sharers, bool loaded) {
  const std::int64_t kernels = loaded ? kLateKernelBytes : kKernelBytes;
  return std::max(backed + free / num_sharers - kernels, std::int64_t{1} << 20);
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
    if (!choose_cuda(options.device, found)) {
      if (options.reduce_scatter == ReduceScatter::nccl)
        fail(ExitCode::usage, "--reduce-scatter nccl is for GPUs, and this job computes on the CPU");
      return std::nullopt;
    }
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
  const StartedDevice started = run_agreed(control, [&] {
    try {
      return start_cuda_device(index);
    } catch (const Error& error) {
      if (std::string_view(error.what()).find("cudaErrorDevicesUnavailable") != std::string_view::npos) {
        fail(error.code(),
             "CUDA device {} does not take this process ({}): its compute mode lets one process in, and "
             "another has it, or none; nvidia-smi -q -d COMPUTE shows the mode, and nvidia-smi -c 0 opens it "
             "to all",
             index, error.what());
      }
      if (error.code() != ExitCode::does_not_fit) throw;
      fail(error.code(), "CUDA device {} is full ({}): end the other programs on it, which nvidia-smi lists",
           index, error.what());
    }
  });
  model_ = started.model;
  name_ = fmt::format("cuda:{} {}", index, model_);
  const DeviceSharers sharers =
      agree_on_sharers(control, {host_name(), started.bus_id, started.bus_id + started.uuid});
  run_agreed(control,
             [&] { check_sharers(sharers, host_name(), name_, std::getenv("NCCL_HOSTID") != nullptr); });
  sharers_ = sharers.of_device;
  ops::set_uploads_wait(started.reads_host);
  multiprocessors_ = most(control, started.multiprocessors);
  JobDeviceOptions settled = options;
  settled.num_threads = threads_near_card(started.bus_id, ranks_per_node_, options.num_threads, control);
  const auto [free, total] = started.bytes;
  if (const std::int64_t others = bytes_of_others(total - free, sharers_); others > 0) {
    spdlog::warn("rank {}: other programs hold about {} of the {} of {}", control.rank(),
                 format_bytes(others), format_bytes(total), name_);
  }
  connect(settled, control, std::min(options.memory_limit.value_or(free), free));
  limit_to_what_is_free(options, control);
}

// What is taken before anything is planned, each part by all ranks together.
void JobDevice::connect(const JobDeviceOptions& options, Communicator& control, std::int64_t arena_limit) {
  const int index = device_.index();
  try {
    run_agreed(control, [&] { install_cuda_arenas(index, arena_limit, options.num_threads); });
    connection_ = connect_cuda_device(index, control, options.reduce_scatter);
    communicator_ = connection_.communicator.get();
    run_agreed(control, [&] {
      // As the engine's own start of products, which finds them started.
      const CategoryScope category(MemoryCategory::workspace);
      start_cuda_products(index);
    });
    start_cuda_collectives(index, *communicator_, control);
  } catch (const Error& error) {
    if (error.code() != ExitCode::does_not_fit) throw;
    const std::string text = fmt::format(
        "{} has no room for what every job takes first ({}): end the other programs on it, which nvidia-smi "
        "lists, {}",
        name_, error.what(),
        options.memory_limit ? "or raise --memory-limit" : "or choose another with CUDA_VISIBLE_DEVICES");
    if (dynamic_cast<const AgreedError*>(&error) != nullptr) throw AgreedError(error.code(), text);
    throw Error(error.code(), text);
  }
}

// With NCCL connected and cuBLAS started on all ranks, what is free now is there for tensors.
void JobDevice::limit_to_what_is_free(const JobDeviceOptions& options, Communicator& control) {
  const std::int64_t limit = run_agreed(
      control, [&] { return device_limit(cuda_bytes_now().free, job_memory().device().backed(), sharers_); });
  if (options.memory_limit && *options.memory_limit > limit) {
    spdlog::warn("rank {}: --memory-limit {} is more than the {} that {} has left for tensors",
                 control.rank(), format_bytes(*options.memory_limit), format_bytes(limit), name_);
  }
  run_agreed(control,
             [&] { job_memory().device().set_limit(std::min(options.memory_limit.value_or(limit), limit)); });
}

void JobDevice::measure_again(Communicator& control) {
  if (!is_cuda()) return;
  run_agreed(control, [&] {
    Arena& arena = job_memory().device();
    const std::int64_t limit = device_limit(cuda_bytes_now().free, arena.backed(), sharers_, true);
    arena.set_limit(std::min(arena.statistics().limit, limit));
  });
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
  return rates_of(*profile, shape, find_link(links, profile->link.name), find_link(links, profile->node_link),
                  precision);
}

}  // namespace autoglm
