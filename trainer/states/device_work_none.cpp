// A build without CUDA: no tensor can be on such a device, so nothing here is ever reached.
#include "base/error.h"
#include "trainer/states/device_work.h"

namespace autoglm {
namespace {

[[noreturn]] void no_device() {
  fail(ExitCode::unavailable, "this build has no CUDA; use --device cpu");
}

}  // namespace

std::unique_ptr<Stream> make_device_compute_stream(at::Device) {
  no_device();
}
std::unique_ptr<Stream> make_device_transfer_stream(at::Device) {
  no_device();
}
std::unique_ptr<WaitClock> make_device_wait_clock(at::Device) {
  no_device();
}
void adamw_on_device(const AdamWSlice&, const AdamWUpdate&) {
  no_device();
}
void accumulate_on_device(const float*, void*, bool, std::int64_t, bool) {
  no_device();
}
void squares_on_device(const at::Tensor&, std::int64_t, std::int64_t, const at::Tensor&) {
  no_device();
}
void start_products_on_device(at::Device) {
  no_device();
}

}  // namespace autoglm
