// The device that this rank computes on: choice, memory, and the communicator between the ranks' devices.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/job/job_device_steps.h"
#include "launcher/job/local_rank.h"
#include "launcher/planner/time_model.h"
#include "sharding/communicator.h"
#include "sharding/device_choice.h"
#include "sharding/strategy.h"
#include "trainer/ops/target.h"

namespace autoglm {

struct JobDeviceOptions {
  DeviceRequest device = DeviceRequest::automatic;
  std::optional<std::int64_t> memory_limit;  // bytes of the device's pool
  int num_threads = 1;                       // that prepare page-locked memory
  ReduceScatter reduce_scatter = ReduceScatter::ordered;
};

class JobDevice {
 public:
  // Chooses the device and installs the arenas: once per process, before the first tensor. `control`, for
  // host memory, must outlive the object. Collective; all ranks fail together (AgreedError).
  JobDevice(const JobDeviceOptions& options, const LocalRank& local, Communicator& control);

  at::Device device() const { return device_; }
  bool is_cuda() const { return device_.is_cuda(); }

  // For the device's memory; control messages go over `control` in any case.
  Communicator& communicator() { return *communicator_; }

  // "cpu", or "cuda:1 NVIDIA H100 80GB HBM3".
  const std::string& name() const { return name_; }

  // Bytes of the device in use by all programs beyond the arena's, as its driver counts them: context,
  // kernels, libraries. 0 on the CPU.
  std::int64_t fixed_bytes() const;

  // Of the largest device of the ranks, which all plan for; the largest that is common on the CPU.
  int multiprocessors() const { return multiprocessors_; }

  // What the device's driver counts for a pool of which the first `extent` bytes are used.
  std::int64_t backed_bytes_for(std::int64_t extent) const;

  // Makes the device's limit smaller by what was loaded since it was set, kernels above all: for after the
  // first step of any kind. Collective.
  void measure_again(Communicator& control);

  // Speeds before anything was measured: of the device's profile where there is one (configs/hardware).
  Rates guessed_rates(int world_size, Precision precision) const;

 private:
  void start_cuda(int index, const JobDeviceOptions& options, Communicator& control);
  void connect(const JobDeviceOptions& options, Communicator& control, std::int64_t arena_limit);
  void limit_to_what_is_free(const JobDeviceOptions& options, Communicator& control);

  at::Device device_ = at::Device(at::kCPU);
  std::string name_ = "cpu";
  std::string model_;  // of the device, in the driver's words
  int ranks_per_node_ = 1;
  int multiprocessors_ = ops::kCommonMultiprocessors;
  int sharers_ = 1;  // ranks that use the device, this one included
  DeviceConnection connection_;
  Communicator* communicator_;
};

// Of this machine, as the network knows it.
std::string host_name();

// How many bytes a rank's arena may take of a device that `num_sharers` ranks of this job use, when context,
// NCCL and cuBLAS hold theirs: `free` are left and `backed` are the rank's arena's already. Kernels that are
// loaded when they are first used have room beside it, less when most of them are `loaded`. At least 1 MiB.
std::int64_t device_limit(std::int64_t free, std::int64_t backed, int num_sharers, bool loaded = false);

// About what other programs hold of a device of which `used` bytes are in use when `num_sharers` ranks of
// this job have nothing there but their contexts; 0 when these alone may explain it.
std::int64_t bytes_of_others(std::int64_t used, int num_sharers);

}  // namespace autoglm
