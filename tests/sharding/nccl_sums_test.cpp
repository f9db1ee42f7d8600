// Sums between GPUs without one: over a fake NCCL, in host memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "tests/sharding/collective_checks.h"
#include "tests/sharding/joined_nccl.h"
#include "tests/sharding/thread_ring.h"

namespace autoglm {
namespace {

using testing::FakeJob;
using testing::join;
using testing::outcome;
using testing::quick;
using testing::run_ranks;
using namespace std::chrono_literals;  // NOLINT
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Sums by the communicator and by `control`, from values of a few magnitudes.
void compare_sums(Communicator& nccl, Communicator& control, std::int64_t count, Parts parts) {
  const int size = control.size();
  std::mt19937 random(static_cast<unsigned>(control.rank() + 1));
  std::normal_distribution<float> normal;
  std::vector<float> mine(static_cast<std::size_t>(count * size));
  for (float& value : mine) value = normal(random) * std::ldexp(1.0F, static_cast<int>(random() % 20) - 10);
  std::vector<float> theirs = mine;
  std::vector<float> sum(static_cast<std::size_t>(count), -1), expected(sum);
  control.reduce_scatter(theirs.data(), expected.data(), count, parts, Event()).synchronize();
  nccl.reduce_scatter(mine.data(), sum.data(), count, parts, Event()).synchronize();
  EXPECT_EQ(sum, expected) << "rank " << control.rank() << " of " << size << ", " << count << " elements";
}

// Host of a rank, as a letter each.
void check_sums_between(const std::string& hosts) {
  SCOPED_TRACE(hosts);
  const int size = static_cast<int>(hosts.size());
  FakeJob job(size);
  const auto failures = run_ranks(size, {}, [&](Communicator& control) {
    NcclOptions options = quick();
    options.host = hosts[static_cast<std::size_t>(control.rank())];
    const auto nccl = join(job, control, options);
    for (const std::int64_t count : {0, 1, 5, 256, 1001, 2500}) {
      compare_sums(*nccl, control, count, Parts::fp32);
      compare_sums(*nccl, control, count, Parts::bf16);
    }
    for (const bool in_place : {false, true})
      testing::check_reduce_scatter(*nccl, 1001, in_place, Parts::bf16);
    testing::check_in_flight(*nccl);
  });
  EXPECT_THAT(failures, Each(std::string()));
}

TEST(NcclSums, SumsHaveTheBitsOfTheRingBetweenHostsToo) {
  for (int size = 1; size <= 8; ++size) check_sums_between(std::string(static_cast<std::size_t>(size), 'a'));
  for (const char* hosts : {"ab", "abc", "aab", "aabb", "abab", "aaab", "abbbc", "abca", "aabbccdd",
                            "aaaabbbb", "abcdabcd", "abcdefgh", "abbaabba"}) {
    check_sums_between(hosts);
  }
}

// Whatever is late: a wait that is missing shows in the bits.
TEST(NcclSums, DoNotDependOnTiming) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    set_host_stream_delay(300, seed);
    for (const char* hosts : {"aaaa", "aabb", "abca"}) check_sums_between(hosts);
  }
  set_host_stream_delay(0, 0);
}

constexpr std::int64_t kCounted = 3000;

// One sum of kCounted elements a shard, after which `job` knows who sent how much.
void run_counted(FakeJob& job, const std::string& hosts, Parts parts) {
  const int size = job.size;
  const auto failures = run_ranks(size, {}, [&](Communicator& control) {
    NcclOptions options = quick();
    options.host = hosts[static_cast<std::size_t>(control.rank())];
    const auto nccl = join(job, control, options);
    std::vector<float> values(kCounted * static_cast<std::size_t>(size));
    nccl->reduce_scatter(values.data(), values.data() + kCounted * control.rank(), kCounted, parts, Event())
        .synchronize();
  });
  EXPECT_THAT(failures, Each(std::string()));
}

TEST(NcclSums, NoMoreBytesLeaveAHostThanOnARing) {
  const std::string hosts = "aaabbbcc";
  const int size = static_cast<int>(hosts.size());
  FakeJob job(size);
  run_counted(job, hosts, Parts::fp32);
  std::map<char, std::int64_t> left;
  for (const auto& [ends, bytes] : job.sent) {
    const char from = hosts[static_cast<std::size_t>(ends.first)];
    if (from != hosts[static_cast<std::size_t>(ends.second)]) left[from] += bytes;
  }
  EXPECT_THAT(left, SizeIs(3));
  for (const auto& [host, bytes] : left) EXPECT_EQ(bytes, (size - 1) * kCounted * 4) << host;
}

// Sums that go from host to host do not.
TEST(NcclSums, RoundedPartsTakeTwoBytesAnElement) {
  for (const std::string hosts : {"aaaa", "aabb"}) {
    FakeJob job(4);
    run_counted(job, hosts, Parts::bf16);
    std::int64_t within = 0, between = 0;
    for (const auto& [ends, bytes] : job.sent) {
      const auto host = [&](int rank) { return hosts[static_cast<std::size_t>(rank)]; };
      (host(ends.first) == host(ends.second) ? within : between) += bytes;
    }
    const bool alone = hosts == "aaaa";
    // Of 16 parts 4 stay where they are; on two hosts every host adds its two of each shard at one rank.
    EXPECT_EQ(within, (alone ? 12 : 8) * kCounted * 2);
    EXPECT_EQ(between, (alone ? 0 : 6) * kCounted * 4);
  }
}

// What clusters set, and what would make NCCL add in another order.
TEST(NcclSums, TheEnvironmentChangesNothingAndIsLeftAlone) {
  const std::map<std::string, std::string> settings = {{"NCCL_ALGO", "Tree"},       {"NCCL_PROTO", "LL128"},
                                                       {"NCCL_NVLS_ENABLE", "1"},   {"NCCL_MAX_CTAS", "16"},
                                                       {"NCCL_MIN_NCHANNELS", "8"}, {"NCCL_MIN_CTAS", "4"},
                                                       {"NCCL_MAX_NCHANNELS", "32"}};
  for (const auto& [name, value] : settings) setenv(name.c_str(), value.c_str(), 1);
  check_sums_between("aab");
  for (const auto& [name, value] : settings) {
    EXPECT_STREQ(std::getenv(name.c_str()), value.c_str());
    unsetenv(name.c_str());
  }
}

TEST(NcclSums, RanksThatAddInDifferentWaysDoNotStart) {
  FakeJob job(2);
  const auto failures = run_ranks(2, {}, [&](Communicator& control) {
    NcclOptions options = quick();
    options.sums_by_nccl = control.rank() == 1;
    join(job, control, options);
  });
  EXPECT_THAT(failures, Each(HasSubstr("how gradients are added")));
}

// Rank 1 fails between two pieces of a shard.
TEST(NcclSums, APeerMayBeLostInTheMiddleOfASum) {
  for (const char* hosts : {"aaa", "aab", "abc"}) {
    SCOPED_TRACE(hosts);
    FakeJob job(3);
    job.failing_rank = 1;
    job.failing_group = 2;
    const auto failures = run_ranks(3, {}, [&](Communicator& control) {
      NcclOptions options = quick();
      options.patience.timeout = 200ms;
      options.host = hosts[control.rank()];
      const auto nccl = join(job, control, options);
      std::vector<float> values(30000);
      const Event done = nccl->reduce_scatter(values.data(), values.data(), 10000, Event());
      const auto [code, message] = outcome(done);
      EXPECT_EQ(code, ExitCode::peer_lost);
      EXPECT_THAT(message, HasSubstr("reduce_scatter number 0 of 40000 bytes"));
      EXPECT_EQ(outcome(nccl->reduce_scatter(values.data(), values.data(), 10, Event())).second, message);
      static_cast<void>(outcome(control.barrier()));
    });
    EXPECT_THAT(failures, Each(std::string()));
    for (int r = 0; r < 3; ++r) EXPECT_EQ(job.calls_of(r).back(), "abort");
  }
}

}  // namespace
}  // namespace autoglm
