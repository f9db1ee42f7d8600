// The communicator between GPUs: collectives of NCCL on a stream of their own.
#pragma once

#include <chrono>
#include <memory>

#include "sharding/communicator.h"
#include "sharding/nccl/nccl_functions.h"

namespace autoglm {

struct NcclOptions {
  // Ring algorithm, simple protocol, one channel: every element of a shard is summed along the same ring, in
  // every run and however the gradient is cut into collectives. Sets NCCL_ALGO, NCCL_PROTO and
  // NCCL_NVLS_ENABLE for the process; Error(usage) if the environment holds others. Slower: one channel does
  // not fill a fast link.
  bool deterministic = false;
  // How long a collective that could run may stand still before the peers count as lost, and how long they
  // may take to come together at the start.
  std::chrono::duration<double> timeout = std::chrono::minutes(30);
  std::chrono::duration<double> start_timeout = std::chrono::minutes(5);
  // Between looks for errors that NCCL reports in the background.
  std::chrono::duration<double> poll = std::chrono::milliseconds(100);
};

// All ranks of `control`, a communicator for host memory that must outlive this one, call it together, each
// with a device of its own; all fail together (AgreedError).
//
// reduce_scatter (in fp32, at every hop), all_gather and broadcast take device memory and run on a CUDA
// stream of high priority. Sums follow NCCL's ring, which may visit ranks in another order than the
// communicator for host memory does. exchange(), all_reduce() and barrier() go over `control`: all_reduce()
// takes host memory. The two kinds are two queues; only events order one after the other.
//
// NCCL cannot end a kernel that waits for a lost peer. So a thread looks for errors and for collectives that
// stand still; when it finds one, or after abandon(), it reports the failure to every CUDA stream of the
// process and aborts NCCL, upon which the kernels end and every event throws.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, int device,
                                                     const NcclOptions& options = {});

// The same over given functions and streams. `reports` is used for nothing but to wait for an event that has
// failed, before NCCL is aborted.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& control, std::unique_ptr<Stream> stream,
                                                     std::unique_ptr<Stream> reports,
                                                     const NcclFunctions& nccl, const NcclOptions& options);

}  // namespace autoglm
