#include "trainer/states/streams.h"

#include <utility>

#include "base/error.h"
#include "trainer/ops/target.h"
#include "trainer/states/flat_weights.h"

namespace autoglm {

namespace {

std::optional<std::int64_t> chosen_transfer_elements;

}  // namespace

std::int64_t transfer_elements(at::Device device) {
  const int power = ops::target_of(device) == ops::Target::cuda ? 22 : 20;
  return chosen_transfer_elements.value_or(std::int64_t{1} << power);
}

void set_transfer_elements(std::optional<std::int64_t> elements) {
  chosen_transfer_elements = elements;
}

EngineStreams::EngineStreams(at::Device device) {
  if (device.is_meta()) {
    // Compute copies gradients that the optimizer gathers.
    compute_ = make_counting_stream(WorkKind::optimizer);
    upload_ = make_counting_stream(WorkKind::uploads);
    download_ = make_counting_stream(WorkKind::downloads);
    host_work_ = make_inline_stream();
    return;
  }
  if (device.is_cuda()) {
    compute_ = make_device_compute_stream(device);
    upload_ = make_device_transfer_stream(device);
    download_ = make_device_transfer_stream(device);
    clock_ = make_device_wait_clock(device);
  } else {
    compute_ = make_inline_stream();
    upload_ = make_host_stream("upload");
    download_ = make_host_stream("download");
  }
  host_work_ = make_host_stream("host work");
}

void EngineStreams::wait_exposed(const Event& event) {
  if (event.ready()) {
    compute_->wait(event);
  } else if (clock_) {
    clock_->wait(*compute_, event);
  } else {
    const auto start = std::chrono::steady_clock::now();
    compute_->wait(event);
    exposed_ += std::chrono::steady_clock::now() - start;
  }
}

void EngineStreams::wait_on_host(const Event& event) {
  if (clock_ && !event.ready()) return clock_->wait_on_host(*compute_, event);
  const auto start = std::chrono::steady_clock::now();
  event.synchronize();
  exposed_ += std::chrono::steady_clock::now() - start;
}

double EngineStreams::take_exposed_seconds() {
  if (clock_) return clock_->take_seconds();
  return std::chrono::duration<double>(std::exchange(exposed_, {})).count();
}

void queue_copy(Stream& stream, const at::Tensor& to, std::int64_t to_element, const at::Tensor& from,
                std::int64_t from_element, std::int64_t count) {
  AUTOGLM_CHECK(to.scalar_type() == from.scalar_type() && to_element + count <= to.numel() &&
                from_element + count <= from.numel());
  if (count == 0) return;
  stream.copy(element_pointer(to, to_element), element_pointer(from, from_element),
              static_cast<std::size_t>(count) * to.element_size());
}

}  // namespace autoglm
