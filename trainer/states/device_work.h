// What the engine has done on a CUDA device, behind functions that every build has. All are queued on
// LibTorch's current stream of the calling thread's device; without CUDA in the build they throw
// Error(unavailable).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "sharding/stream.h"
#include "trainer/optim/adamw_slice.h"

namespace autoglm {

// The streams of `device`: LibTorch's current one, which computes, and one for copies.
std::unique_ptr<Stream> make_device_compute_stream(at::Device device);
std::unique_ptr<Stream> make_device_transfer_stream(at::Device device);

// How long the compute stream has stood still for others, by the device's clock.
class WaitClock {
 public:
  virtual ~WaitClock() = default;
  // Makes `stream` wait for `event`.
  virtual void wait(Stream& stream, const Event& event) = 0;
  // Makes the calling thread wait for `event`. What counts is how long `stream` has had nothing to do then.
  virtual void wait_on_host(Stream& stream, const Event& event) = 0;
  // Of the waits since the last call; blocks until they are over.
  virtual double take_seconds() = 0;

 protected:
  WaitClock() = default;
  WaitClock(const WaitClock&) = default;
  WaitClock& operator=(const WaitClock&) = default;
};
std::unique_ptr<WaitClock> make_device_wait_clock(at::Device device);

// As adamw(), for a slice in device memory.
void adamw_on_device(const AdamWSlice& slice, const AdamWUpdate& update);

// sum += values, or sum = values when `first`: `count` elements, values fp32, sums fp32 or bf16.
void accumulate_on_device(const float* values, void* sum, bool bf16, std::int64_t count, bool first);

// Sums of squares of pieces of `piece` elements of `flat` from its beginning, ceil(count / piece) of them, as
// piece_sum_of_squares() gives them, into `sums`, fp64 on the device.
void squares_on_device(const at::Tensor& flat, std::int64_t count, std::int64_t piece,
                       const at::Tensor& sums);

// Lets cuBLAS take its workspace now, so that it lies where the rehearsal has put it.
void start_products_on_device(at::Device device);

}  // namespace autoglm
