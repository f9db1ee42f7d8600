// Streams and events of a CUDA device.
#pragma once

#include <memory>

#include "sharding/stream.h"

namespace autoglm {

// A non-blocking stream of `device` (it does not wait for the default stream). `high_priority` work is
// scheduled first when a multiprocessor becomes free: for collectives and copies that compute waits for.
// copy() takes any mix of device and pinned host memory. Every call, also of the stream's events, leaves
// `device` the calling thread's. wait() for a host stream's event holds CUDA's
// callback thread until it is ready, so such events must not themselves depend on work behind another such
// wait. The destructor waits for the device to finish the queue. Failures of the device are
// Error(unavailable); the exception of a host event that was waited for comes out of every CUDA stream's
// later waits.
std::unique_ptr<Stream> make_cuda_stream(int device, bool high_priority = false);

// The same over a cudaStream_t of somebody else (null: the default stream), which must outlive the object and
// is not waited for in its destructor.
std::unique_ptr<Stream> wrap_cuda_stream(int device, void* stream);

// Adds up how long pieces of a stream's queue take, by the device's clock, without waiting for them.
class CudaStopwatch {
 public:
  virtual ~CudaStopwatch() = default;
  // Mark a piece's beginning and end, in turns, on one stream of the device.
  virtual void start(Stream& stream) = 0;
  virtual void stop(Stream& stream) = 0;
  // Seconds of all pieces since the last call; waits until the last one is over.
  virtual double take_seconds() = 0;

 protected:
  CudaStopwatch() = default;
  CudaStopwatch(const CudaStopwatch&) = default;
  CudaStopwatch& operator=(const CudaStopwatch&) = default;
};
std::unique_ptr<CudaStopwatch> make_cuda_stopwatch(int device);

// Throws Error(unavailable) naming `what` when the last launch of a kernel on this thread failed.
void check_cuda_launch(const char* what);

}  // namespace autoglm
