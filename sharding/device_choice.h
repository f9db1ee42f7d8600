// Which device a rank computes on: rules only, so that they are the same and tested without a GPU.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace autoglm {

enum class DeviceRequest { automatic, cuda, cpu };

// What is known of CUDA on this host; probe_cuda() of sharding/cuda/cuda_devices.h fills it in. As it stands:
// a build without CUDA.
struct CudaProbe {
  bool built = false;     // this program has device code
  int num_devices = 0;    // usable through the driver
  bool hardware = false;  // there is an NVIDIA GPU, usable or not
  std::string problem;    // why num_devices is 0, in the driver's words
  // Versions of CUDA, as 13000: of this program's runtime, and the newest that the driver can run; 0 without a
  // driver, or where that is not known.
  int runtime = 0;
  int driver = 0;
};

// Whether to compute on CUDA. Never falls back to the CPU in silence: throws Error(unavailable) when CUDA was
// asked for and cannot be had, and when this is a build for CUDA, there is a GPU, and no driver that can use
// it.
bool choose_cuda(DeviceRequest request, const CudaProbe& probe);

// The device of a rank: the only one where a single one is visible (each rank is given its own by the
// scheduler), else the one numbered as the local rank. Throws Error(unavailable) when there are fewer devices
// than ranks.
int choose_cuda_device(int local_rank, int local_size, int num_devices);

// Where a rank computes, as it tells the others. Each text is the same for all processes that mean the same.
struct DevicePlace {
  std::string host;
  std::string card;    // the card's place on the host's bus
  std::string device;  // what CUDA calls a device: the card, or a part of it that is one by itself
};

// How many ranks of this job use what rank `mine` uses, itself included.
struct DeviceSharers {
  int of_card = 1;
  int of_device = 1;  // and so of its memory
};
DeviceSharers count_sharers(std::span<const DevicePlace> all, std::size_t mine);

// Throws Error(unavailable) when several ranks share a card, which NCCL does not connect; `name` is the
// device's. With `apart`, NCCL takes ranks for hosts of their own (NCCL_HOSTID): for tests on one card.
void check_sharers(const DeviceSharers& sharers, const std::string& host, const std::string& name,
                   bool apart);

// Whether the host has an NVIDIA GPU, with or without a driver: a device node or a display controller of PCI
// vendor 0x10de. `root` is the folder that stands for "/".
bool nvidia_hardware_present(const std::filesystem::path& root = "/");

}  // namespace autoglm
