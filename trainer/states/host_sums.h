// Gradients added to accumulators in host memory, and the squares of the norm, which are taken while the last ones are
// added: the accumulators are as large as the model's states, and would be read once more.
#pragma once

#include <cstdint>
#include <optional>

#include "trainer/states/block_state.h"

namespace autoglm {

// Piece `index` of a shard, of those whose squares are summed.
ElementRange squares_piece(const ElementRange& shard, std::int64_t index);
std::int64_t num_squares_pieces(const ElementRange& shard);

// Where to end a range that begins at `begin` and has at most so many elements, so that its last piece is whole.
std::int64_t end_at_piece(const ElementRange& shard, std::int64_t begin, std::int64_t most);

// Before gradients are added to a part: whether their squares will be taken. Additions of earlier ones may be under way.
void expect_squares(const ElementRange& shard, GradientPart& part, bool squares);

// part.sum += values, or = values when `first`, for `range` of the block's elements; bf16 sums are rounded to nearest. By
// all threads, each of which takes at least `grain` elements. With `squares`, those of pieces that lie whole in `range`
// are kept.
void add_on_host(const ElementRange& shard, GradientPart& part, const float* values,
                 const ElementRange& range, bool first, bool squares, std::int64_t grain);

// What add_on_host() has kept of a piece.
std::optional<double> kept_squares(const GradientPart& part, std::int64_t piece);

}  // namespace autoglm
