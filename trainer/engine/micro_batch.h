// The tokens of one micro-batch on one rank.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "trainer/ops/attention.h"

namespace autoglm {

struct MicroBatch {
  at::Tensor ids;        // int64 [B, T] on the device
  at::Tensor positions;  // int32 [B * T] on the device: the place of each token in its document
  at::Tensor targets;    // int32 [B * T] on the host: the next token of the document, or -100
  ops::PackedRows rows;
  std::vector<std::int32_t> largest_ids;  // by row: what a device cannot check is checked here

  // Allocates the tensors for a shape, filled with zeros and ignored targets, one document a row.
  MicroBatch(std::int64_t batch, std::int64_t length, at::Device device);

  std::int64_t num_tokens() const { return rows.batch * rows.length; }

  // Writes row `row` from spans of `length` elements each; `document_starts` are offsets within the row,
  // ascending, beginning with 0. Rows are to be set in order, from row 0. Error(bug) when ids or positions
  // are negative, or a position lies beyond the row. With the last row all go to a device; the first waits until
  // what was there before has gone.
  void set_row(std::int64_t row, std::span<const std::int32_t> row_ids,
               std::span<const std::int32_t> row_targets, std::span<const std::int32_t> row_positions,
               std::span<const std::int32_t> document_starts);

  // Makes row `row` an empty one: nothing is supervised.
  void clear_row(std::int64_t row);

 private:
  class Upload;

  // ids and positions as one: where they are used, and where they are written, which may be the same.
  at::Tensor on_device_, staged_;
  at::Tensor staged_ids_, staged_positions_;
  std::shared_ptr<Upload> upload_;  // to CUDA
};

}  // namespace autoglm
