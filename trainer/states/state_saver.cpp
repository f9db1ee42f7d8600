#include "trainer/states/state_saver.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "sharding/memory/category.h"
#include "trainer/ops/target.h"
#include "trainer/simd/kernels.h"
#include "trainer/states/device_work.h"
#include "trainer/states/streams.h"

namespace autoglm {
namespace {

at::Tensor host_bytes(std::int64_t count, at::Device device) {
  const PoolScope pool(MemoryPool::host);
  const CategoryScope category(MemoryCategory::staging);
  const at::Device place = device.is_meta() ? device : at::Device(at::kCPU);
  return at::empty({count}, at::TensorOptions().dtype(at::kByte).device(place));
}

}  // namespace

StateSaver::StateSaver(const StatePlacement& placement) : device_(placement.device) {
  const bool cuda = ops::target_of(device_) == ops::Target::cuda;
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(float)) * kPiece;
  joined_ = host_bytes(kBytes, device_);
  if (cuda) values_ = host_bytes(kBytes, device_);
  if (cuda) remainder_ = host_bytes(kBytes / 2, device_);
  if (device_.is_meta()) return;
  if (cuda) copies_ = make_device_transfer_stream(device_);
  thread_ = make_host_stream("saver");
}

// The thread ends before what it reads through.
StateSaver::~StateSaver() {
  thread_.reset();
}

Event StateSaver::start(std::vector<SavedRun> runs, std::function<void(std::span<const std::byte>)> take,
                        std::function<void(std::exception_ptr)> done) {
  thread_->submit([this, runs = std::move(runs), take = std::move(take), done = std::move(done)] {
    std::exception_ptr failure;
    try {
      for (const SavedRun& run : runs) read(run, take);
    } catch (...) {
      failure = std::current_exception();
    }
    done(failure);
  });
  return thread_->record();
}

void StateSaver::read(const SavedRun& run, const std::function<void(std::span<const std::byte>)>& take) {
  const std::int64_t all = run.values.numel();
  for (std::int64_t at = 0; at < all; at += kPiece) take(piece_of(run, at, std::min(kPiece, all - at)));
}

const void* StateSaver::on_host(const at::Tensor& values, std::int64_t begin, std::int64_t count,
                                at::Tensor& piece) {
  if (values.is_cpu())
    return static_cast<const std::byte*>(values.const_data_ptr()) + begin * values.element_size();
  const at::Tensor to = piece.narrow(0, 0, count * values.element_size()).view(values.scalar_type());
  queue_copy(*copies_, to, 0, values, begin, count);
  copies_->synchronize();
  return to.const_data_ptr();
}

std::span<const std::byte> StateSaver::piece_of(const SavedRun& run, std::int64_t begin, std::int64_t count) {
  const void* values = on_host(run.values, begin, count, values_);
  if (run.remainder.defined()) {
    const void* const lower = on_host(run.remainder, begin, count, remainder_);
    auto* const joined = static_cast<float*>(joined_.mutable_data_ptr());
    simd::float_kernels().join_master(static_cast<const simd::bf16_bits*>(values),
                                      static_cast<const std::int16_t*>(lower), joined, count);
    values = joined;
  }
  return {static_cast<const std::byte*>(values), static_cast<std::size_t>(count) * dtype_size(run.dtype)};
}

}  // namespace autoglm
