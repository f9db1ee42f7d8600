// The queues of work that one engine has.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <memory>
#include <optional>

#include "sharding/stream.h"
#include "trainer/states/device_work.h"

namespace autoglm {

// Compute runs on the calling thread (or is launched by it); copies between device and host have a stream for
// each direction, and sums on the host one of their own, so that all of them overlap with compute.
class EngineStreams {
 public:
  // For `device`; on meta everything is inline, copies are only counted, and nobody may queue work that touches
  // values.
  explicit EngineStreams(at::Device device);

  Stream& compute() { return *compute_; }
  Stream& upload() { return *upload_; }
  Stream& download() { return *download_; }
  Stream& host_work() { return *host_work_; }

  // Makes compute wait for an event of communication or transfer, and counts the time that this takes: of the
  // calling thread on the CPU, of the device's stream on CUDA.
  void wait_exposed(const Event& event);

  // Makes the calling thread wait, for what it reads or writes in host memory itself, and counts that time: on
  // CUDA the part of it in which the device's stream has nothing to do.
  void wait_on_host(const Event& event);

  // Seconds that compute and the calling thread have waited since the last call. Blocks until these waits are
  // over.
  double take_exposed_seconds();

 private:
  std::unique_ptr<Stream> compute_, upload_, download_, host_work_;
  std::unique_ptr<WaitClock> clock_;  // of the device, where compute runs on one
  std::chrono::steady_clock::duration exposed_{};
};

// Elements that staging buffers hold: copies between memories move at most that many at a time. On CUDA more, since
// starting a copy there takes as long as moving a few hundred thousand bytes. Not to change while an engine is there.
std::int64_t transfer_elements(at::Device device);
void set_transfer_elements(std::optional<std::int64_t> elements);  // none: those that the device's kind has

// Queues a copy of `count` elements between flat tensors of the same dtype. They must stay
// valid until it is done.
void queue_copy(Stream& stream, const at::Tensor& to, std::int64_t to_element, const at::Tensor& from,
                std::int64_t from_element, std::int64_t count);

}  // namespace autoglm
