// What the CUDA runtime finds on this host.
#pragma once

#include <string>

#include "sharding/device_choice.h"

namespace autoglm {

// Counts the usable devices and, where there are none, looks for the hardware. Starts nothing on any device;
// works on hosts without a driver.
CudaProbe probe_cuda();

struct CudaDeviceInfo {
  std::string name;    // "NVIDIA H100 80GB HBM3"
  std::string bus_id;  // of the card on the PCI bus: "0000:3B:00.0"
  std::string uuid;    // of the device, which may be a part of a card (MIG)
  int multiprocessors = 0;
  bool reads_host = false;  // pageable memory, by the host's page tables: not staged by the driver
  int capability = 0;       // 90 is compute capability 9.0
};

// Error(unavailable) when the device does not answer.
CudaDeviceInfo cuda_device_info(int device);

// Makes `device` the calling thread's. Error(unavailable) when it cannot be used.
void use_cuda_device(int device);

}  // namespace autoglm
