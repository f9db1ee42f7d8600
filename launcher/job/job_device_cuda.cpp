#include <ATen/ops/zeros.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/error.h"
#include "launcher/job/job_device.h"
#include "launcher/job/job_device_steps.h"
#include "sharding/agree.h"
#include "sharding/cuda/cuda_allocator.h"
#include "sharding/cuda/cuda_devices.h"
#include "sharding/cuda/cuda_stream.h"
#include "sharding/memory/category.h"
#include "sharding/memory/job_memory.h"
#include "sharding/memory/out_of_memory.h"
#include "sharding/reduce_route.h"
#include "trainer/states/device_work.h"
#ifdef AUTOGLM_WITH_NCCL
#include "sharding/nccl/nccl_communicator.h"
#endif

namespace autoglm {
namespace {

constexpr int kLeastCapability = 80;  // of cmake/AutoglmCuda.cmake's architectures

#ifdef AUTOGLM_WITH_NCCL
// Of the device's arena, from its beginning: as it is rehearsed.
std::shared_ptr<char> take_staging(std::int64_t bytes) {
  const CategoryScope category(MemoryCategory::workspace);
  return {job_memory().device().allocate(bytes), [](char* data) { job_memory().device().release(data); }};
}

void warn_of_scattered_ranks(Communicator& control) {
  const std::vector<int> hosts = number_hosts(gather_text(control, host_name()));
  const std::int64_t crossings = count_crossings(hosts), least = least_crossings(hosts);
  if (control.rank() > 0 || crossings <= least) return;
  spdlog::warn(
      "the ranks of a host do not follow each other, so gradients travel between hosts {:.1f} times as often "
      "as "
      "they need: start mpirun with --map-by slot",
      static_cast<double>(crossings) / static_cast<double>(least));
}
#endif

DeviceConnection connect_by_nccl(int device, Communicator& control, ReduceScatter reduce_scatter) {
#ifdef AUTOGLM_WITH_NCCL
  DeviceConnection connection;
  NcclOptions options;
  options.sums_by_nccl = reduce_scatter == ReduceScatter::nccl;
  options.host = host_name();
  if (!options.sums_by_nccl) {
    const std::int64_t bytes = reduce_staging_bytes(control.size());
    connection.staging = run_agreed(control, [&] { return take_staging(bytes); });
    options.staging = {reinterpret_cast<std::byte*>(connection.staging.get()),
                       static_cast<std::size_t>(bytes)};
    warn_of_scattered_ranks(control);
  }
  connection.communicator = make_nccl_communicator(control, device, options);
  return connection;
#else
  static_cast<void>(reduce_scatter);
  fail(ExitCode::unavailable,
       "{} ranks on CUDA device {} and others need NCCL, which this program was built without: start one "
       "rank, or say "
       "--device cpu",
       control.size(), device);
#endif
}

}  // namespace

CudaProbe find_cuda() {
  return probe_cuda();
}

StartedDevice start_cuda_device(int device) {
  use_cuda_device(device);
  const CudaDeviceInfo info = cuda_device_info(device);
  if (info.capability < kLeastCapability) {
    fail(
        ExitCode::unavailable,
        "CUDA device {} ({}) is of compute capability {}.{}, but this program has device code for 8.0 (A100) "
        "and newer: choose another card with CUDA_VISIBLE_DEVICES, or say --device cpu",
        device, info.name, info.capability / 10, info.capability % 10);
  }
  return {info.name, info.bus_id, info.uuid, info.multiprocessors, info.reads_host, cuda_device_bytes()};
}

void install_cuda_arenas(int device, std::int64_t limit, int num_threads) {
  install_job_memory(std::nullopt, make_cuda_locked_mapping(num_threads));
  install_cuda_arena(device, limit);
}

DeviceConnection connect_cuda_device(int device, Communicator& control, ReduceScatter reduce_scatter) {
  if (control.size() > 1) return connect_by_nccl(device, control, reduce_scatter);
  DeviceConnection alone;
  alone.stream = make_cuda_stream(device, true);
  alone.communicator = make_self_communicator(*alone.stream);
  return alone;
}

void start_cuda_products(int device) {
  // cuBLAS takes memory of its own beside the arena.
  const at::Device place(at::kCUDA, static_cast<at::DeviceIndex>(device));
  if (const auto failure = run_within_memory([&] { start_products_on_device(place); })) throw *failure;
}

void start_cuda_collectives(int device, Communicator& connection, Communicator& control) {
  const at::Device place(at::kCUDA, static_cast<at::DeviceIndex>(device));
  // Larger than what NCCL sends another way because it is short.
  constexpr std::int64_t kElements = std::int64_t{8} << 20;
  const std::int64_t most = std::max<std::int64_t>(1, kElements / connection.size());
  const at::Tensor whole = run_agreed(control, [&] {
    const CategoryScope category(MemoryCategory::staging);
    return at::zeros({most * connection.size()}, at::TensorOptions().dtype(at::kFloat).device(place));
  });
  auto* const values = static_cast<float*>(whole.mutable_data_ptr());
  constexpr std::int64_t kWidth = sizeof(float);
  // A rank that fails here cannot agree with others, which wait for it inside of NCCL.
  Event done = make_device_compute_stream(place)->record();
  for (const std::int64_t count : {std::int64_t{1}, most}) {
    float* const mine = values + count * connection.rank();
    done = connection.reduce_scatter(values, mine, count, done);
    // Collectives run one after the other.
    done = connection.all_gather(mine, values, count * kWidth, Event());
    done = connection.broadcast(values, count * kWidth, 0, Event());
  }
  done.synchronize();
}

DeviceBytes cuda_bytes_now() {
  return cuda_device_bytes();
}

}  // namespace autoglm
