#include "launcher/job/job_device.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "launcher/planner/configs_folder.h"
#include "launcher/planner/probe.h"
#include "launcher/planner/rates.h"
#include "sharding/agree.h"
#include "sharding/memory/job_memory.h"
#ifdef AUTOGLM_WITH_CUDA
#include "sharding/cuda/cuda_allocator.h"
#include "sharding/cuda/cuda_devices.h"
#include "sharding/cuda/cuda_memory.h"
#include "sharding/cuda/cuda_stream.h"
#include "trainer/states/device_work.h"
#endif
#ifdef AUTOGLM_WITH_NCCL
#include "sharding/nccl/nccl_communicator.h"
#endif

namespace autoglm {
namespace {

// LibTorch loads kernels when they are first used.
constexpr std::int64_t kKernelBytes = std::int64_t{512} << 20;
// A context takes less on all devices.
constexpr std::int64_t kLargestContext = std::int64_t{1} << 30;

// Of a device without a profile: a small one, so that offloading is not taken for cheap.
Rates unknown_cuda_rates() {
  Rates rates;
  rates.matrix_flops = 5e13;
  rates.peak_flops = 1e14;
  rates.matrix_half_tokens = 128;
  rates.memory_bandwidth = 5e11;
  rates.host_link_bandwidth = 1e10;
  rates.host_memory_bandwidth = 5e10;
  rates.link_bandwidth = 1e10;
  rates.link_latency = 2e-5;
  rates.overlap = 0.9;
  rates.block_overhead = 1e-4;
  return rates;
}

void check_memory_limit(std::int64_t limit) {
  if (limit < (std::int64_t{1} << 20)) {
    fail(ExitCode::usage, "--memory-limit {} is too small for any model; give at least 1MiB",
         format_bytes(limit));
  }
}

CudaProbe probe() {
#ifdef AUTOGLM_WITH_CUDA
  return probe_cuda();
#else
  return {};
#endif
}

#ifdef AUTOGLM_WITH_CUDA
std::string host_name() {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  return host;
}

// Ranks that use the same device of the same host, this one included.
int count_sharers(Communicator& control, const std::string& device) {
  const std::string mine = host_name() + "/" + device;
  return static_cast<int>(std::ranges::count(gather_text(control, mine), mine));
}

std::unique_ptr<Communicator> connect(Communicator& control, int device) {
#ifdef AUTOGLM_WITH_NCCL
  NcclOptions options;
  // Two terms have the same sum in either order; more need one order, whatever the shapes.
  options.deterministic = control.size() > 2;
  return make_nccl_communicator(control, device, options);
#else
  fail(ExitCode::unavailable,
       "{} ranks on CUDA device {} and others need NCCL, which this program was built without: start one "
       "rank, or say "
       "--device cpu",
       control.size(), device);
#endif
}
#endif

}  // namespace

std::int64_t device_limit(std::int64_t free, std::int64_t backed, int num_sharers) {
  return std::max(backed + free / num_sharers - kKernelBytes, std::int64_t{1} << 20);
}

std::int64_t bytes_of_others(std::int64_t used, int num_sharers) {
  return used > num_sharers * kLargestContext ? used : 0;
}

JobDevice::JobDevice(const JobDeviceOptions& options, const LocalRank& local, Communicator& control)
    : ranks_per_node_(local.size), communicator_(&control) {
  const CudaProbe found = probe();
  const bool cuda = run_agreed(control, [&] {
    if (options.memory_limit) check_memory_limit(*options.memory_limit);
    const bool chosen = choose_cuda(options.device, found);
    if (chosen) {
      device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(
                                          choose_cuda_device(local.rank, local.size, found.num_devices)));
    }
    return chosen;
  });
  check_same(control, "the kind of device", cuda ? "cuda" : "cpu");
  if (cuda) {
    start_cuda(options, control);
  } else {
    install_job_memory(options.memory_limit);
  }
}

void JobDevice::start_cuda([[maybe_unused]] const JobDeviceOptions& options,
                           [[maybe_unused]] Communicator& control) {
#ifdef AUTOGLM_WITH_CUDA
  const int index = device_.index();
  CudaDeviceInfo info;
  DeviceBytes before;
  run_agreed(control, [&] {
    use_cuda_device(index);
    info = cuda_device_info(index);
    before = cuda_device_bytes();
  });
  model_ = info.name;
  name_ = fmt::format("cuda:{} {}", index, info.name);
  const int sharers = count_sharers(control, info.bus_id);
  if (const std::int64_t others = bytes_of_others(before.total - before.free, sharers); others > 0) {
    spdlog::warn("rank {}: other programs hold about {} of the {} of {}", control.rank(),
                 format_bytes(others), format_bytes(before.total), name_);
  }
  run_agreed(control, [&] {
    install_job_memory(std::nullopt, make_cuda_locked_mapping(options.num_threads));
    install_cuda_arena(index, std::min(options.memory_limit.value_or(before.free), before.free));
    if (control.size() > 1) return;
    stream_ = make_cuda_stream(index, true);
    own_ = make_self_communicator(*stream_);
  });
  if (!own_) own_ = connect(control, index);
  communicator_ = own_.get();
  limit_to_what_is_free(options, control, sharers);
#endif
}

// With NCCL connected and cuBLAS started on all ranks, what is free now is there for tensors.
void JobDevice::limit_to_what_is_free([[maybe_unused]] const JobDeviceOptions& options,
                                      [[maybe_unused]] Communicator& control, [[maybe_unused]] int sharers) {
#ifdef AUTOGLM_WITH_CUDA
  run_agreed(control, [&] { start_products_on_device(device_); });
  const std::int64_t limit = run_agreed(control, [&] {
    return device_limit(cuda_device_bytes().free, job_memory().device().backed(), sharers);
  });
  if (options.memory_limit && *options.memory_limit > limit) {
    spdlog::warn("rank {}: --memory-limit {} is more than the {} that {} has left for tensors",
                 control.rank(), format_bytes(*options.memory_limit), format_bytes(limit), name_);
  }
  run_agreed(control,
             [&] { job_memory().device().set_limit(std::min(options.memory_limit.value_or(limit), limit)); });
#endif
}

std::int64_t JobDevice::fixed_bytes() const {
#ifdef AUTOGLM_WITH_CUDA
  if (is_cuda()) {
    const DeviceBytes now = cuda_device_bytes();
    return now.total - now.free - job_memory().device().backed();
  }
#endif
  return 0;
}

std::int64_t JobDevice::backed_bytes_for(std::int64_t extent) const {
#ifdef AUTOGLM_WITH_CUDA
  if (is_cuda()) return (extent + kCudaMemoryPiece - 1) / kCudaMemoryPiece * kCudaMemoryPiece;
#endif
  return extent;
}

Rates JobDevice::guessed_rates(int world_size, Precision precision) const {
  if (!is_cuda()) return guessed_cpu_rates();
  const std::filesystem::path folder = configs_folder();
  const std::vector<HardwareProfile> profiles = load_hardware_profiles(folder / "hardware");
  const HardwareProfile* profile = find_hardware_or_null(profiles, model_);
  if (profile == nullptr) return unknown_cuda_rates();
  const std::vector<LinkProfile> links = load_links(folder / "links.json");
  const ClusterShape shape{world_size, (world_size + ranks_per_node_ - 1) / ranks_per_node_};
  return rates_of(*profile, shape, find_link(links, profile->node_link), precision);
}

}  // namespace autoglm
