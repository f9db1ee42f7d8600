#include "sharding/ring_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "base/error.h"

namespace autoglm {
namespace {

std::vector<RingPiece> all_pieces(RingPieces pieces) {
  std::vector<RingPiece> list;
  for (std::int64_t left = pieces.count(); left > 0; --left) list.push_back(pieces.next());
  return list;
}

bool same(const RingPiece& a, const RingPiece& b) {
  return a.segment == b.segment && a.offset == b.offset && a.bytes == b.bytes;
}

// What a rank receives is what the previous one sends, piece by piece, and what it forwards it has received.
void expect_consistent(const std::vector<RingPlan>& plans) {
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    const auto sends = all_pieces(plans[rank].sends);
    const auto receives = all_pieces(plans[rank].receives);
    const auto arriving = all_pieces(plans[(rank + plans.size() - 1) % plans.size()].sends);
    ASSERT_EQ(receives.size(), arriving.size()) << "rank " << rank;
    for (std::size_t i = 0; i < receives.size(); ++i) EXPECT_TRUE(same(receives[i], arriving[i])) << i;
    for (std::size_t i = static_cast<std::size_t>(plans[rank].head_start); i < sends.size(); ++i) {
      EXPECT_TRUE(same(sends[i], receives[i - static_cast<std::size_t>(plans[rank].head_start)])) << i;
    }
  }
}

TEST(RingPlan, NeighboursAgreeOnEveryPiece) {
  for (int size = 1; size <= 6; ++size) {
    for (const std::int64_t bytes : {0, 4, 252, 256, 260, 1024, 1500}) {
      std::vector<RingPlan> scatter, gather;
      std::vector<std::int64_t> sizes;
      for (int rank = 0; rank < size; ++rank) sizes.push_back(rank % 2 == 0 ? bytes * rank : bytes);
      for (int rank = 0; rank < size; ++rank) {
        scatter.push_back(plan_reduce_scatter(rank, size, bytes, 256));
        gather.push_back(plan_all_gather(rank, sizes, 256));
      }
      expect_consistent(scatter);
      expect_consistent(gather);
      for (int root = 0; root < size; ++root) {
        std::vector<RingPlan> broadcast;
        for (int rank = 0; rank < size; ++rank)
          broadcast.push_back(plan_broadcast(rank, size, root, bytes, 256));
        expect_consistent(broadcast);
      }
    }
  }
}

TEST(RingPlan, ReduceScatterEndsWithTheOwnShardAndPassesTheOthersOn) {
  const int size = 4, rank = 1;
  std::vector<int> received;
  for (const RingPiece& piece : all_pieces(plan_reduce_scatter(rank, size, 8, 8).receives)) {
    received.push_back(piece.segment);
  }
  EXPECT_EQ(received, (std::vector<int>{3, 2, 1}));
}

TEST(RingPlan, AllGatherReceivesEverythingButTheOwnShard) {
  std::map<int, std::int64_t> received;
  for (const RingPiece& piece : all_pieces(plan_all_gather(2, {10, 0, 30, 700}, 256).receives)) {
    received[piece.segment] += piece.bytes;
  }
  EXPECT_EQ(received, (std::map<int, std::int64_t>{{0, 10}, {3, 700}}));
}

TEST(RingPlan, CountsBeyondTheRangeOfIntAreCutWithoutGapsOrOverlaps) {
  const std::int64_t bytes = std::int64_t{3'000'000'001} * 4, piece_bytes = 1 << 20;
  const RingPlan plan = plan_reduce_scatter(0, 3, bytes, piece_bytes);
  std::int64_t expected_offset = 0;
  int segment = -1, segments = 0;
  for (const RingPiece& piece : all_pieces(plan.receives)) {
    if (piece.segment != segment) {
      EXPECT_EQ(expected_offset, segments > 0 ? bytes : 0);
      segment = piece.segment;
      expected_offset = 0;
      ++segments;
    }
    ASSERT_EQ(piece.offset, expected_offset);
    ASSERT_TRUE(0 < piece.bytes && piece.bytes <= piece_bytes);
    expected_offset += piece.bytes;
  }
  EXPECT_EQ(segments, 2);
  EXPECT_EQ(expected_offset, bytes);
  EXPECT_EQ(plan.head_start, (bytes + piece_bytes - 1) / piece_bytes);
}

TEST(RingPlan, RefusesImpossibleArguments) {
  EXPECT_THROW(plan_reduce_scatter(0, 2, -4, 256), Error);
  EXPECT_THROW(plan_reduce_scatter(0, 2, 4, 0), Error);
  RingPieces pieces({4, 0}, 0, 2, 256);
  pieces.next();
  EXPECT_THROW(pieces.next(), Error);
}

}  // namespace
}  // namespace autoglm
