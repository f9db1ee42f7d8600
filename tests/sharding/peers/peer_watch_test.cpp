#include "sharding/peers/peer_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
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

// Ends this process with the number of losses that two ranks have seen in four seconds.
[[noreturn]] void lose_in_four_seconds() {
  std::array<Seen, 2> seen;
  PeerPatience patience = short_patience();
  patience.silence = 1s;
  testing::run_ranks(2, {}, [&](Communicator& control) {
    const PeerWatch watch(control, "here", patience, watcher(seen[static_cast<std::size_t>(control.rank())]));
    const auto end = std::chrono::steady_clock::now() + 4s;
    while (std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(10ms);
  });
  _exit(seen[0].losses + seen[1].losses);
}

// As schedulers do that suspend jobs.
TEST(PeerWatch, AJobThatIsStoppedAsAWholeLosesNobody) {
  const pid_t job = fork();
  if (job == 0) lose_in_four_seconds();
  std::this_thread::sleep_for(1s);
  kill(job, SIGSTOP);
  std::this_thread::sleep_for(2s);
  kill(job, SIGCONT);
  int status = 0;
  ASSERT_EQ(waitpid(job, &status, 0), job);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
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

// Connects to one that listens, and says nothing yet.
Socket call(int port) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(static_cast<std::uint16_t>(port));
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(socket.number(), reinterpret_cast<sockaddr*>(&there), sizeof there), 0);
  return socket;
}

TEST(PeerSockets, ThoseWhoGaveUpAreNotLetIn) {
  PeerListener listener;
  const std::array<std::uint64_t, 2> greeting{listener.address().token, 3};
  {
    const Socket impatient = call(listener.address().port);
    EXPECT_EQ(send(impatient.number(), &greeting, sizeof greeting, 0), sizeof greeting);
  }
  EXPECT_FALSE(listener.accept_until(std::chrono::steady_clock::now() + 500ms));
}

TEST(PeerSockets, SilentStrangersDoNotKeepPeersOut) {
  PeerListener listener;
  const Socket first = call(listener.address().port), second = call(listener.address().port);
  std::thread rank([address = listener.address()] {
    EXPECT_TRUE(connect_to_peer(address, 7, std::chrono::steady_clock::now() + 20s));
  });
  EXPECT_TRUE(listener.accept_until(std::chrono::steady_clock::now() + 20s));
  rank.join();
}

TEST(PeerSockets, WantOfFilesIsToldAtOnce) {
  PeerListener listener;
  const Socket peer = call(listener.address().port);
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlimit none = limit;
  none.rlim_cur = static_cast<rlim_t>(peer.number()) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_THROW(listener.accept_until(began + 10s), Error);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
  setrlimit(RLIMIT_NOFILE, &limit);
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
