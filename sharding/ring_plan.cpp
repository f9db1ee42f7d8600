#include "sharding/ring_plan.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

int wrap(int rank, int size) {
  return (rank % size + size) % size;
}

}  // namespace

RingPieces::RingPieces(std::vector<std::int64_t> sizes, int first, int steps, std::int64_t piece_bytes)
    : sizes_(std::move(sizes)), piece_bytes_(piece_bytes), first_(first), steps_(steps) {
  AUTOGLM_CHECK(piece_bytes > 0 && steps >= 0 && steps <= static_cast<int>(sizes_.size()));
  for (const std::int64_t bytes : sizes_) AUTOGLM_CHECK(bytes >= 0, "{} bytes", bytes);
}

int RingPieces::segment_of(int step) const {
  return wrap(first_ - step, static_cast<int>(sizes_.size()));
}

std::int64_t RingPieces::pieces_in(int step) const {
  const std::int64_t bytes = sizes_[static_cast<std::size_t>(segment_of(step))];
  return bytes / piece_bytes_ + (bytes % piece_bytes_ != 0);
}

std::int64_t RingPieces::count() const {
  std::int64_t total = 0;
  for (int step = 0; step < steps_; ++step) total += pieces_in(step);
  return total;
}

std::int64_t RingPieces::first_count() const {
  return steps_ == 0 ? 0 : pieces_in(0);
}

RingPiece RingPieces::next() {
  for (; step_ < steps_; ++step_, offset_ = 0) {
    const int segment = segment_of(step_);
    const std::int64_t left = sizes_[static_cast<std::size_t>(segment)] - offset_;
    if (left == 0) continue;
    const RingPiece piece{segment, offset_, std::min(left, piece_bytes_)};
    offset_ += piece.bytes;
    return piece;
  }
  AUTOGLM_CHECK(false, "no piece is left");
  return {};
}

RingPlan plan_reduce_scatter(int rank, int size, std::int64_t bytes, std::int64_t piece_bytes) {
  const std::vector<std::int64_t> sizes(static_cast<std::size_t>(size), bytes);
  RingPieces sends(sizes, wrap(rank - 1, size), size - 1, piece_bytes);
  RingPieces receives(sizes, wrap(rank - 2, size), size - 1, piece_bytes);
  const std::int64_t head_start = sends.first_count();
  return {std::move(sends), std::move(receives), head_start};
}

RingPlan plan_all_gather(int rank, const std::vector<std::int64_t>& sizes, std::int64_t piece_bytes) {
  const int size = static_cast<int>(sizes.size());
  RingPieces sends(sizes, rank, size - 1, piece_bytes);
  RingPieces receives(sizes, wrap(rank - 1, size), size - 1, piece_bytes);
  const std::int64_t head_start = sends.first_count();
  return {std::move(sends), std::move(receives), head_start};
}

RingPlan plan_broadcast(int rank, int size, int root, std::int64_t bytes, std::int64_t piece_bytes) {
  const bool is_root = rank == root;
  const bool is_last = wrap(rank + 1, size) == root;
  RingPieces sends({bytes}, 0, is_last ? 0 : 1, piece_bytes);
  RingPieces receives({bytes}, 0, is_root ? 0 : 1, piece_bytes);
  const std::int64_t head_start = is_root ? sends.first_count() : 0;
  return {std::move(sends), std::move(receives), head_start};
}

}  // namespace autoglm
