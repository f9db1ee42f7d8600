#include "trainer/engine/micro_batch.h"

#include <algorithm>

#include "sharding/memory/category.h"
#include "trainer/ops/head.h"
#include "trainer/ops/target.h"

namespace autoglm {
namespace {

// Beside a CUDA device they lie in the host's pool, in a rehearsal as in the job.
at::Tensor empty_targets(std::int64_t tokens, at::Device device) {
  const bool beside = ops::target_of(device) == ops::Target::cuda;
  const PoolScope pool(beside ? MemoryPool::host : current_pool());
  const at::Device host = device.is_meta() ? device : at::Device(at::kCPU);
  return at::empty({tokens}, at::TensorOptions().dtype(at::kInt).device(host));
}

}  // namespace

MicroBatch::MicroBatch(std::int64_t batch, std::int64_t length, at::Device device) {
  const CategoryScope scope(MemoryCategory::data);
  rows.batch = batch;
  rows.length = length;
  largest_ids.assign(static_cast<std::size_t>(batch), 0);
  ids = at::zeros({batch, length}, at::TensorOptions().dtype(at::kLong).device(device));
  positions = at::zeros({batch * length}, at::TensorOptions().dtype(at::kInt).device(device));
  targets = empty_targets(batch * length, device);
  if (device.is_meta()) return;
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
  if (row == 0) rows.document_starts.clear();
  for (const std::int32_t start : document_starts) {
    rows.document_starts.push_back(static_cast<std::int32_t>(first) + start);
  }
  std::copy(row_targets.begin(), row_targets.end(), ops::write_pointer<std::int32_t>(targets) + first);
  if (ids.is_cpu()) {
    std::copy(row_ids.begin(), row_ids.end(), ops::write_pointer<std::int64_t>(ids) + first);
    std::copy(row_positions.begin(), row_positions.end(),
              ops::write_pointer<std::int32_t>(positions) + first);
    return;
  }
  const auto host_int = at::TensorOptions().dtype(at::kInt);
  at::Tensor staged = at::empty({2, rows.length}, host_int);
  std::copy(row_ids.begin(), row_ids.end(), ops::write_pointer<std::int32_t>(staged));
  std::copy(row_positions.begin(), row_positions.end(),
            ops::write_pointer<std::int32_t>(staged) + rows.length);
  ids.select(0, row).copy_(staged.select(0, 0));
  positions.narrow(0, first, rows.length).copy_(staged.select(0, 1));
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
