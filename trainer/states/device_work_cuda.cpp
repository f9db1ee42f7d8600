#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "base/error.h"
#include "base/math.h"
#include "sharding/cuda/cuda_stream.h"
#include "trainer/ops/cuda_launch.h"
#include "trainer/optim/adamw_cuda.h"
#include "trainer/states/device_work.h"

namespace autoglm {
namespace {

void* stream_now() {
  return ops::cuda::current_stream();
}

class DeviceWaitClock final : public WaitClock {
 public:
  explicit DeviceWaitClock(int device) : clock_(make_cuda_stopwatch(device)) {}
  void wait(Stream& stream, const Event& event) override {
    clock_->start(stream);
    stream.wait(event);
    clock_->stop(stream);
  }
  // The piece begins when the queue has run empty.
  void wait_on_host(Stream& stream, const Event& event) override {
    clock_->start(stream);
    event.synchronize();
    clock_->stop(stream);
  }
  double take_seconds() override { return clock_->take_seconds(); }

 private:
  std::unique_ptr<CudaStopwatch> clock_;
};

}  // namespace

std::unique_ptr<Stream> make_device_compute_stream(at::Device device) {
  return wrap_cuda_stream(device.index(), stream_now());
}
std::unique_ptr<Stream> make_device_transfer_stream(at::Device device) {
  return make_cuda_stream(device.index(), true);
}
std::unique_ptr<WaitClock> make_device_wait_clock(at::Device device) {
  return std::make_unique<DeviceWaitClock>(device.index());
}

void adamw_on_device(const AdamWSlice& slice, const AdamWUpdate& update) {
  adamw_cuda(slice, update, stream_now());
  check_cuda_launch("AdamW");
}

void accumulate_on_device(const float* values, void* sum, bool bf16, std::int64_t count, bool first) {
  accumulate_cuda(values, sum, bf16, count, first, stream_now());
  check_cuda_launch("adding gradients");
}

void squares_on_device(const at::Tensor& flat, std::int64_t count, std::int64_t piece,
                       const at::Tensor& sums) {
  AUTOGLM_CHECK(divide_up(count, piece) <= sums.numel() && count <= flat.numel(), "{} elements", count);
  squares_cuda(flat.const_data_ptr(), flat.scalar_type() == at::kBFloat16, count, piece,
               static_cast<double*>(sums.mutable_data_ptr()), stream_now());
  check_cuda_launch("summing squares");
}

void start_products_on_device(at::Device device) {
  const at::Tensor one = at::zeros({16, 16}, at::TensorOptions().dtype(at::kFloat).device(device));
  at::mm(one, one);
}

}  // namespace autoglm
