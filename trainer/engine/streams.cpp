#include "trainer/engine/streams.h"

#include <utility>

#include "sharding/base/error.h"

namespace autoglm {

EngineStreams::EngineStreams(at::Device device) : compute_(make_inline_stream()) {
  const auto make = [&](const char* name) {
    return device.is_meta() ? make_inline_stream() : make_host_stream(name);
  };
  upload_ = make("upload");
  download_ = make("download");
  host_work_ = make("host work");
}

void EngineStreams::wait_exposed(const Event& event) {
  if (event.ready()) {
    compute_->wait(event);
    return;
  }
  const auto start = std::chrono::steady_clock::now();
  compute_->wait(event);
  exposed_ += std::chrono::steady_clock::now() - start;
}

double EngineStreams::take_exposed_seconds() {
  return std::chrono::duration<double>(std::exchange(exposed_, {})).count();
}

void queue_copy(Stream& stream, const at::Tensor& to, std::int64_t to_element, const at::Tensor& from,
                std::int64_t from_element, std::int64_t count) {
  AUTOGLM_CHECK(to.scalar_type() == from.scalar_type() && to_element + count <= to.numel() &&
                from_element + count <= from.numel());
  if (to.is_meta() || count == 0) return;
  const auto width = static_cast<std::int64_t>(to.element_size());
  stream.copy(static_cast<char*>(to.mutable_data_ptr()) + to_element * width,
              static_cast<const char*>(from.const_data_ptr()) + from_element * width,
              static_cast<std::size_t>(count * width));
}

}  // namespace autoglm
