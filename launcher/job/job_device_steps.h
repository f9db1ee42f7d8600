// The steps in which a CUDA device becomes a rank's, each with its result. Every build has them: without
// device code nothing is found, and the others throw Error(unavailable).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "sharding/communicator.h"
#include "sharding/cuda/cuda_memory.h"
#include "sharding/device_choice.h"
#include "sharding/strategy.h"
#include "sharding/stream.h"

namespace autoglm {

// What there is on this host. Starts nothing on any device.
CudaProbe find_cuda();

struct StartedDevice {
  std::string model;   // in the driver's words
  std::string bus_id;  // of its card: "0000:3B:00.0"
  std::string uuid;    // of the device, which may be a part of a card
  int multiprocessors = 0;
  bool reads_host = false;  // pageable memory, by the host's page tables
  DeviceBytes bytes;        // when this process has nothing there but its context
};
// Makes the device the calling thread's.
StartedDevice start_cuda_device(int device);

// Tensors on the device come from an arena of at most `limit` bytes, those on the host from page-locked
// memory that `num_threads` threads prepare. Once per process.
void install_cuda_arenas(int device, std::int64_t limit, int num_threads);

// What collectives between the ranks' devices run on.
struct DeviceConnection {
  std::shared_ptr<char> staging;   // where ranks receive what they add: device memory
  std::unique_ptr<Stream> stream;  // of one rank alone, whose collectives are copies
  std::unique_ptr<Communicator> communicator;
};
// By NCCL, where there are several ranks. Collective.
DeviceConnection connect_cuda_device(int device, Communicator& control, ReduceScatter reduce_scatter);

// Lets cuBLAS take its workspace.
void start_cuda_products(int device);

// Lets NCCL connect what it only connects for the first collective of a kind. Collective; `control` makes all
// ranks fail together.
void start_cuda_collectives(int device, Communicator& connection, Communicator& control);

// Of the calling thread's device, now.
DeviceBytes cuda_bytes_now();

}  // namespace autoglm
