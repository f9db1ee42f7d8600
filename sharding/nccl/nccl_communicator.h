// The communicator between GPUs: collectives of NCCL, and sums in the order of the ranks.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "sharding/communicator.h"
#include "sharding/nccl/nccl_connection.h"

namespace autoglm {

struct NcclOptions {
  // reduce_scatter by NCCL's own algorithm, which adds in an order that depends on the machines, on NCCL's
  // version and its settings. Otherwise no algorithm of NCCL adds anything, and sums have the bits of the
  // communicator for host memory, whatever the environment says.
  bool sums_by_nccl = false;
  // For sums in order: memory of the device, reduce_staging_bytes() for the number of ranks, that outlives the
  // communicator (tests give less).
  std::span<std::byte> staging = {};
  // Equal on ranks of one host, between which all links are fast.
  std::string host = {};
  NcclPatience patience = {};
};

// All ranks of `control`, a communicator for host memory that must outlive this one, call it together, each
// with a device of its own; all fail together (AgreedError).
//
// reduce_scatter (in fp32, at every hop), all_gather and broadcast take device memory and run on CUDA streams
// of high priority. exchange(), all_reduce() and barrier() go over `control`: all_reduce() takes host memory.
// The two kinds are two queues; only events order one after the other. What becomes of lost peers is told in
// nccl_connection.h.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, int device,
                                                     const NcclOptions& options = {});

// Queues for collectives, for sums, and for reports of failures to all streams of the process.
struct NcclStreams {
  std::unique_ptr<Stream> collectives, sums, reports;
};

// The same over given functions and streams; on host streams all memory is the host's.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, NcclStreams streams,
                                                     const NcclFunctions& nccl, const NcclOptions& options);

}  // namespace autoglm
