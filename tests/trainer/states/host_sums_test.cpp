// Sums of gradients on the host, and the squares that are taken on the way.
#include "trainer/states/host_sums.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "trainer/optim/adamw.h"

namespace autoglm {
namespace {

// A shard of three pieces and some more, the middle of which lies in this part.
constexpr ElementRange kShard{64, 64 + 3 * kSquaresPiece + 1000};
constexpr ElementRange kPart{64 + 500, 64 + 3 * kSquaresPiece + 1000};

GradientPart part_of(at::ScalarType type) {
  GradientPart part;
  part.range = kPart;
  part.pool = MemoryPool::host;
  part.sum = at::full({kPart.size()}, 77, type);
  return part;
}

// In ranges of at most so many elements, as they come through staging buffers.
void add_in_ranges(GradientPart& part, const at::Tensor& values, bool first, bool squares,
                   std::int64_t most) {
  expect_squares(kShard, part, squares);
  for (std::int64_t at = kPart.begin, end = 0; at < kPart.end; at = end) {
    end = std::min(end_at_piece(kShard, at, most), kPart.end);
    ASSERT_LE(end - at, most);
    add_on_host(kShard, part, values.const_data_ptr<float>() + (at - kPart.begin), {at, end}, first, squares,
                1);
  }
}

class HostSums : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(HostSums, AreThoseOfTheWholeAndKeepSquaresOfWholePieces) {
  at::manual_seed(3);
  const at::Tensor one = at::randn({kPart.size()}), other = at::randn({kPart.size()});
  const at::Tensor expected = one.to(GetParam()).to(at::kFloat).add(other).to(GetParam());
  for (const std::int64_t most :
       {3 * kSquaresPiece, 2 * kSquaresPiece + 3, kSquaresPiece, std::int64_t{999}}) {
    GradientPart part = part_of(GetParam());
    add_in_ranges(part, one, true, false, most);
    EXPECT_FALSE(kept_squares(part, 1).has_value());
    add_in_ranges(part, other, false, true, most);
    EXPECT_TRUE(at::equal(part.sum, expected)) << most;
    EXPECT_FALSE(kept_squares(part, 0).has_value());  // begins before this part
    for (std::int64_t i = 1; i < num_squares_pieces(kShard); ++i) {
      const ElementRange piece = squares_piece(kShard, i);
      const std::optional<double> kept = kept_squares(part, i);
      // The last piece is small enough for one range wherever it begins.
      if (most < kSquaresPiece && piece.size() > most) {
        EXPECT_FALSE(kept.has_value()) << i;
      } else if (most >= kSquaresPiece) {
        EXPECT_EQ(kept, piece_sum_of_squares(expected, piece.begin - kPart.begin, piece.size())) << i;
      }
    }
    // What was kept says nothing of a sum that is added to again.
    expect_squares(kShard, part, false);
    EXPECT_FALSE(kept_squares(part, 1).has_value());
  }
}

// A tied matrix is added to twice a micro-batch, the second time perhaps before the first is over.
TEST(TiedSums, SquaresThatAreBeingTakenAreLeftAlone) {
  const at::Tensor values = at::ones({kPart.size()});
  GradientPart part = part_of(at::kFloat);
  add_in_ranges(part, values, true, true, 3 * kSquaresPiece);
  const std::optional<double> kept = kept_squares(part, 1);
  ASSERT_TRUE(kept.has_value());
  expect_squares(kShard, part, true);
  EXPECT_EQ(kept_squares(part, 1), kept);
}

INSTANTIATE_TEST_SUITE_P(Types, HostSums, ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return info.param == at::kFloat ? "fp32" : "bf16"; });

}  // namespace
}  // namespace autoglm
