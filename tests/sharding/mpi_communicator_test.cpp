// The communicator over MPI. Run with mpirun: every rank runs every test.
#include "sharding/mpi/mpi_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "sharding/agree.h"
#include "tests/sharding/collective_checks.h"
#include "tests/sharding/mpi_test_main.h"

namespace autoglm {
namespace {

using std::chrono::milliseconds;
MpiSession* session = nullptr;

RingOptions options(std::int64_t piece_bytes, int window = 4) {
  RingOptions result;
  result.piece_bytes = piece_bytes;
  result.window = window;
  result.timeout = std::chrono::seconds(60);
  return result;
}

void check_collectives(Communicator& communicator) {
  for (const bool in_place : {false, true}) {
    for (const std::int64_t count : {0, 1, 3, 1000, 16384, 16385, 70001}) {
      testing::check_reduce_scatter(communicator, count, in_place);
      testing::check_reduce_scatter(communicator, count, in_place, Parts::bf16);
      testing::check_all_gather(communicator, count, in_place);
    }
  }
  for (const std::size_t count : {0, 1, 5, 2000, 40000}) testing::check_all_reduce(communicator, count);
  for (int root = 0; root < communicator.size(); ++root) {
    for (const std::int64_t bytes : {0, 1, 65536, 300001})
      testing::check_broadcast(communicator, bytes, root);
  }
  testing::check_exchange(communicator);
  testing::check_barrier(communicator);
  testing::check_in_flight(communicator);
  testing::check_after(communicator);
}

TEST(MpiSession, KnowsTheRanksOfThisHost) {
  EXPECT_LT(session->rank(), session->size());
  EXPECT_EQ(session->local_size(), session->size());  // the test runs on one host
  EXPECT_EQ(session->local_rank(), session->rank());
}

TEST(MpiCommunicator, MeetsTheDefinitions) {
  const auto communicator = make_mpi_communicator(*session, options(64 << 10));
  EXPECT_EQ(communicator->rank(), session->rank());
  EXPECT_EQ(communicator->size(), session->size());
  check_collectives(*communicator);
}

TEST(MpiCommunicator, TheSizeOfPiecesChangesNothing) {
  for (const auto& [piece_bytes, window] : {std::pair{256, 1}, {1024, 16}, {1 << 20, 2}}) {
    const auto communicator = make_mpi_communicator(*session, options(piece_bytes, window));
    for (const std::int64_t count : {1, 5000, 40001}) {
      testing::check_reduce_scatter(*communicator, count, true);
      testing::check_all_gather(*communicator, count, true);
    }
  }
}

TEST(MpiCommunicator, SeveralShareTheThread) {
  const auto first = make_mpi_communicator(*session, options(4096));
  const auto second = make_mpi_communicator(*session, options(4096));
  double one = session->rank(), two = 1;
  const Event event = first->all_reduce({&one, 1}, Event());
  second->all_reduce({&two, 1}, event).synchronize();
  EXPECT_EQ(one, session->size() * (session->size() - 1) / 2);
  EXPECT_EQ(two, session->size());
}

// The calling thread sleeps, and so makes no MPI call: only the communication thread can have moved the data.
TEST(MpiCommunicator, MovesDataWhileTheCallerDoesSomethingElse) {
  const auto communicator = make_mpi_communicator(*session, options(256 << 10));
  constexpr std::int64_t count = 1 << 20;
  std::vector<float> whole(static_cast<std::size_t>(count * communicator->size()), 1.0f);
  std::vector<float> shard(static_cast<std::size_t>(count));
  communicator->barrier().synchronize();
  Event event = communicator->reduce_scatter(whole.data(), shard.data(), count, Event());
  event = communicator->all_gather(shard.data(), whole.data(), count * 4, event);
  for (int waited = 0; !event.ready() && waited < 2000; ++waited)
    std::this_thread::sleep_for(milliseconds(10));
  EXPECT_TRUE(event.ready());
  EXPECT_EQ(whole.back(), static_cast<float>(communicator->size()));
}

// A rank that computes flat out still takes part: the transfer ends long before the computation would.
TEST(MpiCommunicator, MovesDataWhileTheCallerComputes) {
  const auto communicator = make_mpi_communicator(*session, options(256 << 10));
  std::vector<std::byte> whole(static_cast<std::size_t>(communicator->size()) << 20);
  communicator->barrier().synchronize();
  const Event event =
      communicator->all_gather(whole.data() + (session->rank() << 20), whole.data(), 1 << 20, Event());
  const auto start = std::chrono::steady_clock::now();
  volatile double sink = 1;
  while (!event.ready() && std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
    for (int i = 0; i < 1000; ++i) sink = sink * 1.0000001;
  }
  EXPECT_TRUE(event.ready());
  event.synchronize();
}

TEST(MpiCommunicator, AgreesOnFailures) {
  const auto communicator = make_mpi_communicator(*session);
  agree(*communicator, nullptr);
  const int failing = session->size() - 1;
  try {
    run_agreed(*communicator, [&] {
      if (session->rank() == failing) fail(ExitCode::bad_data, "bad");
    });
    ADD_FAILURE();
  } catch (const AgreedError& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_data);
    EXPECT_EQ(std::string(error.what()), session->size() == 1 ? "bad" : fmt::format("rank {}: bad", failing));
  }
  check_same(*communicator, "--seed", "42");
  if (session->size() > 1) {
    EXPECT_THROW(check_same(*communicator, "rank", std::to_string(session->rank())), AgreedError);
  }
}

}  // namespace
}  // namespace autoglm

// "--delay MICROSECONDS" as the last arguments delays all work of the communication thread at random.
int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc == 3 && std::string(argv[1]) == "--delay") {
    autoglm::set_host_stream_delay(static_cast<unsigned>(std::stoul(argv[2])), 11);
  }
  autoglm::MpiSession session;
  autoglm::session = &session;
  return autoglm::testing::run_all_tests_on_ranks(session);
}
