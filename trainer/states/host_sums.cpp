#include "trainer/states/host_sums.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "base/math.h"
#include "trainer/ops/target.h"
#include "trainer/optim/adamw.h"

namespace autoglm {
namespace {

constexpr double kNotTaken = -1;

void add(const float* values, void* sum, bool bf16, std::int64_t count, bool first) {
  const auto& math = simd::float_kernels();
  if (bf16) {
    auto* to = static_cast<simd::bf16_bits*>(sum);
    first ? simd::activation_kernels<simd::bf16_bits>().narrow(values, to, count)
          : math.accumulate_bf16(values, to, count);
  } else if (first) {
    std::copy_n(values, count, static_cast<float*>(sum));
  } else {
    math.accumulate(values, static_cast<float*>(sum), count);
  }
}

}  // namespace

ElementRange squares_piece(const ElementRange& shard, std::int64_t index) {
  const std::int64_t begin = shard.begin + index * kSquaresPiece;
  return {begin, std::min(begin + kSquaresPiece, shard.end)};
}

std::int64_t num_squares_pieces(const ElementRange& shard) {
  return divide_up(shard.size(), kSquaresPiece);
}

std::int64_t end_at_piece(const ElementRange& shard, std::int64_t begin, std::int64_t most) {
  const std::int64_t end = begin + most, over = (end - shard.begin) % kSquaresPiece;
  return end - over > begin ? end - over : end;
}

void add_on_host(const ElementRange& shard, GradientPart& part, const float* values,
                 const ElementRange& range, bool first, bool squares, std::int64_t grain) {
  if (range.size() == 0) return;
  const bool bf16 = part.sum.scalar_type() == at::kBFloat16;
  const std::int64_t first_piece = (range.begin - shard.begin) / kSquaresPiece;
  const std::int64_t last_piece = (range.end - 1 - shard.begin) / kSquaresPiece;
  at::parallel_for(
      first_piece, last_piece + 1, divide_up(grain, kSquaresPiece),
      [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const ElementRange piece = squares_piece(shard, i), mine = piece.within(range);
          const std::int64_t at = mine.begin - part.range.begin;
          add(values + (mine.begin - range.begin), element_pointer(part.sum, at), bf16, mine.size(), first);
          if (squares && mine.size() == piece.size())
            part.squares[static_cast<std::size_t>(i)] = piece_sum_of_squares(part.sum, at, piece.size());
        }
      });
}

void expect_squares(const ElementRange& shard, GradientPart& part, bool squares) {
  part.squared = squares;
  const auto pieces = static_cast<std::size_t>(num_squares_pieces(shard));
  // Work that was queued before may be writing them: a tied matrix is added to twice. It is always the same pieces that
  // are taken, so none is left of earlier sums.
  if (squares && ops::computes(part.sum) && part.squares.size() != pieces)
    part.squares.assign(pieces, kNotTaken);
}

std::optional<double> kept_squares(const GradientPart& part, std::int64_t piece) {
  if (!part.squared || part.squares[static_cast<std::size_t>(piece)] == kNotTaken) return std::nullopt;
  return part.squares[static_cast<std::size_t>(piece)];
}

}  // namespace autoglm
