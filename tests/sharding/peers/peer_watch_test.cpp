#include "sharding/peers/peer_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

#include "sharding/agree.h"
#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using namespace std::chrono_literals;  // NOLINT
using ::testing::Each;
using ::testing::HasSubstr;

PeerPatience short_patience() {
  PeerPatience patience;
  patience.connect = 5s;
  patience.beat = 20ms;
  patience.silence = 10s;
  patience.grace = 50ms;
  patience.ending = 50ms;
  return patience;
}

// What one rank saw of the others.
struct Seen {
  std::atomic<int> losses = 0, stuck = 0;
  std::atomic<int> rank = -1;
};

PeerActions watcher(Seen& seen) {
  return {[&seen](const LostPeer& peer) {
            seen.rank = peer.rank;
            ++seen.losses;
          },
          [&seen](const LostPeer&) { ++seen.stuck; }};
}

bool comes_true(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(2ms);
  return condition();
}

TEST(PeerWatch, ThoseWhoLeaveAreNotLost) {
  std::array<Seen, 4> seen;
  const auto failures = testing::run_ranks(4, {}, [&](Communicator& control) {
    const auto rank = static_cast<std::size_t>(control.rank());
    const PeerWatch watch(control, "here", short_patience(), watcher(seen[rank]));
    EXPECT_EQ(watch.problem(), "");
    std::this_thread::sleep_for(rank * 150ms);
    EXPECT_FALSE(watch.lost());
  });
  EXPECT_THAT(failures, Each(std::string()));
  for (const Seen& one : seen) EXPECT_EQ(one.losses, 0);
}

// An exception ends the watch of one rank without a word, as the end of its process would.
void lose_one(int size, int lost) {
  std::vector<Seen> seen(static_cast<std::size_t>(size));
  std::atomic<int> waiting = size - 1, speakers = 0;
  const auto failures = testing::run_ranks(size, {}, [&](Communicator& control) {
    const int rank = control.rank();
    Seen& mine = seen[static_cast<std::size_t>(rank)];
    const PeerWatch watch(control, "host" + std::to_string(rank), short_patience(), watcher(mine));
    if (rank == lost) fail(ExitCode::bug, "the end");
    EXPECT_TRUE(comes_true([&] { return mine.stuck == 1; }));
    EXPECT_EQ(mine.losses, 1);
    EXPECT_EQ(mine.rank, lost);
    ASSERT_TRUE(watch.lost());
    EXPECT_THAT(watch.lost()->sentence, HasSubstr(fmt::format("rank {0} on host{0} has ended before", lost)));
    if (watch.speaks()) ++speakers;
    --waiting;
    EXPECT_TRUE(comes_true([&] { return waiting == 0; }));
  });
  EXPECT_EQ(failures[static_cast<std::size_t>(lost)], "the end");
  EXPECT_EQ(waiting, 0);
  EXPECT_EQ(speakers, 1);
}

TEST(PeerWatch, TheOthersLearnOfALossAndOneTellsOfIt) {
  lose_one(4, 2);
  lose_one(3, 0);
  lose_one(2, 1);
}

TEST(PeerWatch, ARankThatGivesNoSignOfLifeIsLost) {
  std::array<Seen, 3> seen;
  std::atomic<int> waiting = 2;
  const auto failures = testing::run_ranks(3, {}, [&](Communicator& control) {
    const int rank = control.rank();
    PeerPatience patience = short_patience();
    patience.silence = 400ms;
    if (rank == 1) {
      patience.beat = 1000s;
      patience.silence = 1000s;
    }
    Seen& mine = seen[static_cast<std::size_t>(rank)];
    const PeerWatch watch(control, "here", patience, watcher(mine));
    if (rank != 1) {
      EXPECT_TRUE(comes_true([&] { return mine.losses == 1; }));
      EXPECT_EQ(mine.rank, 1);
      ASSERT_TRUE(watch.lost());
      EXPECT_THAT(watch.lost()->sentence, HasSubstr("rank 1 on here has given no sign of life for"));
      --waiting;
    }
    EXPECT_TRUE(comes_true([&] { return waiting == 0; }));
  });
  EXPECT_THAT(failures, Each(std::string()));
}

TEST(PeerWatch, WithoutConnectionsThereIsNone) {
  std::array<Seen, 2> seen;
  const auto failures = testing::run_ranks(2, {}, [&](Communicator& control) {
    PeerPatience patience = short_patience();
    patience.connect = 0s;
    Seen& mine = seen[static_cast<std::size_t>(control.rank())];
    const PeerWatch watch(control, "here", patience, watcher(mine));
    EXPECT_THAT(watch.problem(), HasSubstr("rank 1 on here: no answer at port"));
  });
  EXPECT_THAT(failures, Each(std::string()));
  EXPECT_EQ(seen[0].losses + seen[1].losses, 0);
}

TEST(PeerSockets, StrangersAreNotLetIn) {
  PeerListener listener;
  std::thread stranger([address = listener.address()]() mutable {
    address.token += 1;
    EXPECT_THROW(connect_to_peer(address, 5, std::chrono::steady_clock::now() + 2s), Error);
    address.token -= 1;
    EXPECT_TRUE(connect_to_peer(address, 7, std::chrono::steady_clock::now() + 5s));
  });
  const auto peer = listener.accept_until(std::chrono::steady_clock::now() + 20s);
  stranger.join();
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->first, 7);
}

TEST(PeerSockets, AddressesTravelAsText) {
  const PeerAddress address{123456789012345, 4711, {"127.0.0.1", "fd00::1"}};
  const PeerAddress read = peer_address_from(to_text(address));
  EXPECT_EQ(read.token, address.token);
  EXPECT_EQ(read.port, address.port);
  EXPECT_EQ(read.addresses, address.addresses);
}

}  // namespace
}  // namespace autoglm
