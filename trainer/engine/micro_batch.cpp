#include "trainer/engine/micro_batch.h"

#include <algorithm>

#include "sharding/memory/category.h"
#include "trainer/ops/head.h"
#include "trainer/ops/target.h"
#include "trainer/states/device_work.h"

namespace autoglm {
namespace {

constexpr std::int64_t kIdWords = 2;  // an id is as wide as two of the other numbers

at::Tensor empty_words(std::int64_t count, at::Device device) {
  return at::empty({count}, at::TensorOptions().dtype(at::kInt).device(device));
}

// In the host's pool, in a rehearsal as in the job: on CUDA that is page-locked.
at::Tensor empty_host_words(std::int64_t count, at::Device device) {
  const PoolScope pool(MemoryPool::host);
  return empty_words(count, device.is_meta() ? device : at::Device(at::kCPU));
}

}  // namespace

// The way to a device: one copy, behind what is queued there.
class MicroBatch::Upload {
 public:
  explicit Upload(at::Device device) : stream_(make_device_compute_stream(device)) {}
  ~Upload() { wait_quietly(done_); }
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;

  // Until what start() was given may be overwritten.
  void finish() const { done_.synchronize(); }
  void start(const at::Tensor& from, const at::Tensor& to) {
    stream_->copy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
    done_ = stream_->record();
  }

 private:
  std::unique_ptr<Stream> stream_;
  Event done_;
};

MicroBatch::MicroBatch(std::int64_t batch, std::int64_t length, at::Device device) {
  const CategoryScope scope(MemoryCategory::data);
  const std::int64_t tokens = batch * length;
  rows.batch = batch;
  rows.length = length;
  largest_ids.assign(static_cast<std::size_t>(batch), 0);
  const auto ids_of = [&](const at::Tensor& words) {
    return words.narrow(0, 0, kIdWords * tokens).view(at::kLong).view({batch, length});
  };
  const auto positions_of = [&](const at::Tensor& words) {
    return words.narrow(0, kIdWords * tokens, tokens);
  };
  on_device_ = empty_words((kIdWords + 1) * tokens, device);
  ids = ids_of(on_device_);
  positions = positions_of(on_device_);
  if (ops::target_of(device) == ops::Target::cuda) {
    const at::Tensor all = empty_host_words((kIdWords + 2) * tokens, device);
    staged_ = all.narrow(0, 0, on_device_.numel());
    targets = all.narrow(0, on_device_.numel(), tokens);
  } else {
    staged_ = on_device_;
    targets = empty_words(tokens, device);
  }
  staged_ids_ = ids_of(staged_);
  staged_positions_ = positions_of(staged_);
  if (device.is_meta()) return;
  if (device.is_cuda()) upload_ = std::make_shared<Upload>(device);
  for (std::int64_t row = 0; row < batch; ++row) clear_row(row);
}

void MicroBatch::set_row(std::int64_t row, std::span<const std::int32_t> row_ids,
                         std::span<const std::int32_t> row_targets,
                         std::span<const std::int32_t> row_positions,
                         std::span<const std::int32_t> document_starts) {
  const std::int64_t first = row * rows.length;
  AUTOGLM_CHECK(static_cast<std::int64_t>(row_ids.size()) == rows.length &&
                row_targets.size() == row_ids.size() && row_positions.size() == row_ids.size());
  const auto [smallest, largest] = std::minmax_element(row_ids.begin(), row_ids.end());
  const auto [first_position, last_position] =
      std::minmax_element(row_positions.begin(), row_positions.end());
  AUTOGLM_CHECK(*smallest >= 0 && *first_position >= 0 && *last_position < rows.length,
                "token id {}, positions from {} to {} in rows of {}", *smallest, *first_position,
                *last_position, rows.length);
  largest_ids[static_cast<std::size_t>(row)] = *largest;
  if (row == 0) {
    rows.document_starts.clear();
    if (upload_) upload_->finish();
  }
  for (const std::int32_t start : document_starts) {
    rows.document_starts.push_back(static_cast<std::int32_t>(first) + start);
  }
  std::copy(row_ids.begin(), row_ids.end(), ops::write_pointer<std::int64_t>(staged_ids_) + first);
  std::copy(row_positions.begin(), row_positions.end(),
            ops::write_pointer<std::int32_t>(staged_positions_) + first);
  std::copy(row_targets.begin(), row_targets.end(), ops::write_pointer<std::int32_t>(targets) + first);
  if (upload_ && row + 1 == rows.batch) upload_->start(staged_, on_device_);
}

void MicroBatch::clear_row(std::int64_t row) {
  const std::vector<std::int32_t> zeros(static_cast<std::size_t>(rows.length), 0);
  const std::vector<std::int32_t> ignored(zeros.size(), ops::kIgnoredTarget);
  std::vector<std::int32_t> places(zeros.size());
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = static_cast<std::int32_t>(i);
  const std::int32_t start = 0;
  set_row(row, zeros, ignored, places, {&start, 1});
}

}  // namespace autoglm
