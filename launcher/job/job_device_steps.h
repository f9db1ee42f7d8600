// The steps in which a CUDA device becomes a rank's, each with its result. Every build has them: without
// device code nothing is found, and the others throw Error(unavailable).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sharding/communicator.h"
#include "sharding/cuda/cuda_memory.h"
#include "sharding/device_choice.h"
#include "sharding/stream.h"

namespace autoglm {

// What there is on this host. Starts nothing on any device.
CudaProbe find_cuda();

struct StartedDevice {
  std::string model;   // in the driver's words
  std::string bus_id;  // the same for all processes of a host that use the device
  DeviceBytes bytes;   // when this process has nothing there but its context
};
// Makes the device the calling thread's.
StartedDevice start_cuda_device(int device);

// Tensors on the device come from an arena of at most `limit` bytes, those on the host from page-locked
// memory that `num_threads` threads prepare. Once per process.
void install_cuda_arenas(int device, std::int64_t limit, int num_threads);

// What collectives between the ranks' devices run on.
struct DeviceConnection {
  std::unique_ptr<Stream> stream;  // of one rank alone, whose collectives are copies
  std::unique_ptr<Communicator> communicator;
};
// By NCCL, where there are several ranks. Collective.
DeviceConnection connect_cuda_device(int device, Communicator& control);

// Lets cuBLAS take its workspace.
void start_cuda_products(int device);

// Of the calling thread's device, now.
DeviceBytes cuda_bytes_now();

}  // namespace autoglm
