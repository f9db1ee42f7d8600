// Communicators without MPI: one rank, the rehearsal's, and the ring between threads.
#include "sharding/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "sharding/work.h"
#include "tests/sharding/collective_checks.h"
#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void check_everything(Communicator& communicator) {
  for (const bool in_place : {false, true}) {
    for (const std::int64_t count : {0, 1, 5, 63, 64, 65, 127, 500, 1000}) {
      testing::check_reduce_scatter(communicator, count, in_place);
      testing::check_reduce_scatter(communicator, count, in_place, Parts::bf16);
      testing::check_all_gather(communicator, count, in_place);
    }
  }
  for (const std::size_t count : {0, 1, 3, 100, 1000}) testing::check_all_reduce(communicator, count);
  for (int root = 0; root < communicator.size(); ++root) {
    for (const std::int64_t bytes : {0, 1, 256, 5000}) testing::check_broadcast(communicator, bytes, root);
  }
  testing::check_exchange(communicator);
  testing::check_barrier(communicator);
  testing::check_in_flight(communicator);
  testing::check_after(communicator);
}

RingOptions small_pieces(int window) {
  RingOptions options;
  options.piece_bytes = 256;
  options.window = window;
  options.timeout = std::chrono::seconds(20);
  return options;
}

TEST(SelfCommunicator, MeetsTheDefinitions) {
  const auto communicator = make_self_communicator();
  EXPECT_EQ(communicator->scratch_bytes(), 0);
  check_everything(*communicator);
}

TEST(SelfCommunicator, MayCopyOnAStream) {
  const auto stream = make_host_stream("copies");
  check_everything(*make_self_communicator(*stream));
}

TEST(SelfCommunicator, PassesOnTheFailureThatItWaitedFor) {
  const auto stream = make_host_stream("producer");
  stream->submit([] { fail(ExitCode::io_failed, "the disk is gone"); });
  float value = 0;
  EXPECT_THROW(make_self_communicator()->reduce_scatter(&value, &value, 1, stream->record()), Error);
}

TEST(RehearsalCommunicator, CountsTwoBytesForEachElementOfRoundedParts) {
  const auto communicator = make_rehearsal_communicator(1, 4);
  WorkCounter counter;
  const auto sent = [&](Parts parts) {
    communicator->reduce_scatter(nullptr, nullptr, 100, parts, Event());
    return counter.take()[WorkKind::reductions].written;
  };
  EXPECT_EQ(sent(Parts::fp32), 3 * 100 * 4);
  EXPECT_EQ(sent(Parts::bf16), 3 * 100 * 2);
}

TEST(RehearsalCommunicator, AnswersWithoutTouchingBuffers) {
  const auto communicator = make_rehearsal_communicator(3, 8);
  EXPECT_EQ(communicator->rank(), 3);
  EXPECT_EQ(communicator->size(), 8);
  EXPECT_EQ(communicator->scratch_bytes(), ring_scratch_bytes(8));
  EXPECT_TRUE(communicator->reduce_scatter(nullptr, nullptr, 1 << 20, Event()).ready());
  EXPECT_TRUE(communicator->all_gather(nullptr, nullptr, 1 << 20, Event()).ready());
  EXPECT_TRUE(communicator->broadcast(nullptr, 1 << 20, 7, Event()).ready());
  EXPECT_TRUE(communicator->all_reduce({}, Event()).ready());
  EXPECT_TRUE(communicator->barrier().ready());
  const std::vector<std::byte> mine(3, std::byte{9});
  EXPECT_THAT(communicator->exchange(mine), AllOf(::testing::SizeIs(8), Each(mine)));
}

class Ring : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, Ring, ::testing::Values(1, 2, 3, 4, 5));

TEST_P(Ring, MeetsTheDefinitions) {
  for (const int window : {1, 3}) {
    EXPECT_THAT(testing::run_ranks(GetParam(), small_pieces(window), check_everything), Each(IsEmpty()));
  }
}

TEST_P(Ring, MeetsTheDefinitionsUnderRandomDelays) {
  set_host_stream_delay(300, 7);
  const auto failures = testing::run_ranks(GetParam(), small_pieces(2), [](Communicator& communicator) {
    for (const std::int64_t count : {1, 64, 1000}) {
      testing::check_reduce_scatter(communicator, count, true);
      testing::check_all_gather(communicator, count, false);
      testing::check_all_reduce(communicator, static_cast<std::size_t>(count));
    }
    testing::check_in_flight(communicator);
  });
  set_host_stream_delay(0, 0);
  EXPECT_THAT(failures, Each(IsEmpty()));
}

TEST(Ring, HoldsTheScratchThatItTells) {
  const RingOptions options = small_pieces(3);
  EXPECT_EQ(ring_scratch_bytes(2, options), 3 * 256);
  EXPECT_EQ(ring_scratch_bytes(1, options), 0);
  testing::run_ranks(2, options, [&](Communicator& communicator) {
    EXPECT_EQ(communicator.scratch_bytes(), ring_scratch_bytes(2, options));
  });
}

TEST(Ring, ReportsDifferentCollectivesBeforeAnyDataMoves) {
  const auto failures = testing::run_ranks(2, small_pieces(2), [](Communicator& communicator) {
    communicator.barrier().synchronize();
    std::vector<std::byte> data(1024, static_cast<std::byte>(communicator.rank()));
    try {
      if (communicator.rank() == 0) {
        communicator.all_gather(data.data(), data.data(), 512, Event()).synchronize();
      } else {
        communicator.broadcast(data.data(), 1024, 0, Event()).synchronize();
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bug);
      EXPECT_THAT(data, Each(static_cast<std::byte>(communicator.rank())));
      throw;
    }
  });
  EXPECT_THAT(failures[0], AllOf(HasSubstr("rank 0, all_gather number 1 of 512 bytes"),
                                 HasSubstr("rank 1 started broadcast number 1 of 1024 bytes from rank 0")));
  EXPECT_THAT(failures[1], HasSubstr("rank 0 started all_gather number 1 of 512 bytes"));
}

TEST(Ring, ReportsDifferentSizes) {
  RingOptions options = small_pieces(2);
  options.timeout =
      std::chrono::milliseconds(500);  // rank 1 agrees with rank 0, and then waits for it in vain
  const auto failures = testing::run_ranks(3, options, [](Communicator& communicator) {
    std::vector<float> data(30);
    const int count = communicator.rank() == 2 ? 9 : 10;
    communicator.reduce_scatter(data.data(), data.data(), count, Event()).synchronize();
  });
  EXPECT_THAT(failures[0], HasSubstr("rank 2 started reduce_scatter number 0 of 36 bytes"));
  EXPECT_THAT(failures[2], HasSubstr("rank 1 started reduce_scatter number 0 of 40 bytes"));
}

TEST(Ring, NamesTheRankThatStoppedAnswering) {
  RingOptions options = small_pieces(2);
  options.timeout = std::chrono::milliseconds(200);
  const auto failures = testing::run_ranks(2, options, [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    try {
      communicator.barrier().synchronize();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::peer_lost);
      throw;
    }
  });
  EXPECT_EQ(failures[0], "rank 0, barrier number 0: rank 1 has not sent anything for 0.2s");
  EXPECT_EQ(failures[1], "");
}

TEST(Ring, AbandoningEndsWhatIsUnderWay) {
  const auto start = std::chrono::steady_clock::now();
  const auto failures = testing::run_ranks(2, small_pieces(2), [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    std::vector<std::byte> whole(2000);
    const Event event = communicator.all_gather(whole.data(), whole.data(), 1000, Event());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_FALSE(event.ready());
    communicator.abandon();
    EXPECT_THROW(event.synchronize(), Error);
    communicator.exchange({});
  });
  EXPECT_EQ(failures[0],
            "rank 0, all_gather number 0 of 1000 bytes: abandoned because this rank failed elsewhere");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));  // the timeout is 20
}

TEST(Ring, TheFirstReasonForAbandoningCounts) {
  const auto failures = testing::run_ranks(2, small_pieces(2), [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    EXPECT_FALSE(communicator.abandoned());
    communicator.abandon("rank 1 has ended");
    communicator.abandon();
    EXPECT_EQ(communicator.abandoned(), "rank 1 has ended");
    communicator.barrier().synchronize();
  });
  EXPECT_EQ(failures[0], "rank 0, barrier number 0: abandoned because rank 1 has ended");
}

TEST(Ring, AnExceptionThatPassesItsCommunicatorDoesNotWaitForOtherRanks) {
  const auto start = std::chrono::steady_clock::now();
  const auto failures = testing::run_ranks(2, small_pieces(2), [](Communicator& communicator) {
    if (communicator.rank() == 1) return;
    communicator.barrier();
    fail(ExitCode::bad_data, "line 7 is broken");
  });
  EXPECT_EQ(failures[0], "line 7 is broken");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Ring, AFailedInputFailsTheCollectiveAndAllLaterOnes) {
  const auto failures = testing::run_ranks(1, small_pieces(2), [](Communicator& communicator) {
    const auto producer = make_host_stream("producer");
    producer->submit([] { fail(ExitCode::io_failed, "the disk is gone"); });
    std::vector<double> values(1);
    EXPECT_THROW(communicator.all_reduce(values, producer->record()).synchronize(), Error);
    communicator.exchange({});
  });
  EXPECT_EQ(failures[0], "the disk is gone");
}

}  // namespace
}  // namespace autoglm
