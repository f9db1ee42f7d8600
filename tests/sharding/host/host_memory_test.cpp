#include "sharding/memory/host_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/error.h"
#include "tests/sharding/host/another_host.h"

namespace autoglm {
namespace {

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20, kGibibyte = kMebibyte << 10;

class HostMemory : public AnotherHost {
 protected:
  HostMemory() { write_memory(64 << 20, 60 << 20); }
  std::int64_t limit() const { return host_memory_limit(root()); }
  std::int64_t available() const { return available_host_memory(root()); }
};

TEST_F(HostMemory, IsTheMachinesWithoutGroups) {
  EXPECT_EQ(limit(), 64 * kGibibyte);
  EXPECT_EQ(available(), 60 * kGibibyte);
}

TEST_F(HostMemory, OfTheProcessesOwnGroupInVersion1) {
  mount_version_1();
  write("proc/self/cgroup", "4:memory:/slurm/uid_0/job_7\n1:cpu,cpuacct:/\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.limit_in_bytes", "4294967296\n");
  write("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.usage_in_bytes", "2147483648\n");
  write("sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.stat",
        "inactive_file 1\ntotal_inactive_file 536870912\ntotal_active_file 536870912\n");
  EXPECT_EQ(limit(), 4 * kGibibyte);
  EXPECT_EQ(available(), 3 * kGibibyte);
}

TEST_F(HostMemory, OfAGroupAboveInVersion1) {
  mount_version_1();
  write("proc/self/cgroup", "4:memory:/jobs/7/step_0\n");
  write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1073741824\n");
  write("sys/fs/cgroup/memory/jobs/7/memory.limit_in_bytes", "8589934592\n");
  write("sys/fs/cgroup/memory/jobs/7/step_0/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(limit(), kGibibyte);
}

TEST_F(HostMemory, OfAContainerThatSeesItsOwnGroupAlone) {
  mount_version_1("/docker/4f");
  write("proc/self/cgroup", "4:memory:/docker/4f\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
  EXPECT_EQ(limit(), 2 * kGibibyte);
  // Of a parent that it does not see.
  write("sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 1073741824\n");
  EXPECT_EQ(limit(), kGibibyte);
}

TEST_F(HostMemory, OfAGroupBelowTheContainers) {
  mount_version_1("/docker/4f");
  write("proc/self/cgroup", "4:memory:/docker/4f/job\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1048576\n");
  EXPECT_EQ(limit(), kMebibyte);
}

TEST_F(HostMemory, OfVersion2) {
  mount_version_2();
  write("proc/self/cgroup", "0::/kubepods.slice/pod3/main\n");
  write("sys/fs/cgroup/kubepods.slice/pod3/main/memory.max", "max\n");
  write("sys/fs/cgroup/kubepods.slice/pod3/memory.max", "8589934592\n");
  write("sys/fs/cgroup/kubepods.slice/pod3/memory.current", "3221225472\n");
  write("sys/fs/cgroup/kubepods.slice/pod3/memory.stat",
        "anon 17\ninactive_file 1073741824\nactive_file 536870912\nslab_reclaimable 536870912\n");
  EXPECT_EQ(limit(), 8 * kGibibyte);
  EXPECT_EQ(available(), 7 * kGibibyte);
  // Where the kernel would slow the process down.
  write("sys/fs/cgroup/kubepods.slice/pod3/main/memory.high", "4294967296\n");
  EXPECT_EQ(limit(), 4 * kGibibyte);
}

TEST_F(HostMemory, OfVersion2BesideVersion1) {
  write("proc/self/mountinfo",
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "41 31 0:38 / /mnt/two\\040words rw,relatime - cgroup2 cgroup2 rw\n");
  write("proc/self/cgroup", "4:memory:/a\n0::/b\n");
  write("mnt/two words/b/memory.max", "1073741824\n");
  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "3221225472\n");
  EXPECT_EQ(limit(), kGibibyte);
}

TEST_F(HostMemory, OfAnotherGroupIsNotOurs) {
  mount_version_1();
  write("proc/self/cgroup", "4:memory:/mine\n");
  write("sys/fs/cgroup/memory/theirs/memory.limit_in_bytes", "1048576\n");
  EXPECT_EQ(limit(), 64 * kGibibyte);
}

TEST_F(HostMemory, IsWhereEverySystemHasItWhenMountsAreNotTold) {
  write("proc/self/cgroup", "4:memory:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(limit(), kGibibyte);
}

TEST_F(HostMemory, InUseIsNotAvailable) {
  write_memory(64 << 20, 2 << 20);
  EXPECT_EQ(limit(), 64 * kGibibyte);
  EXPECT_EQ(available(), 2 * kGibibyte);
  mount_version_2();
  write("proc/self/cgroup", "0::/full\n");
  write("sys/fs/cgroup/full/memory.max", "1073741824\n");
  write("sys/fs/cgroup/full/memory.current", "1073745920\n");
  EXPECT_EQ(available(), 0);
}

// Under a limit of `room` bytes beyond what the process has now.
class AddressLimits : public testing::TestWithParam<decltype(RLIMIT_AS)> {
 protected:
  void SetUp() override { ASSERT_EQ(getrlimit(GetParam(), &before_), 0); }
  void TearDown() override { setrlimit(GetParam(), &before_); }
  void leave(std::int64_t room) const {
    rlimit all = before_;
    all.rlim_cur = rlim_t{1} << 46;
    if (all.rlim_max != RLIM_INFINITY) all.rlim_cur = std::min(all.rlim_cur, all.rlim_max);
    setrlimit(GetParam(), &all);
    rlimit limit = before_;
    limit.rlim_cur =
        static_cast<rlim_t>(static_cast<std::int64_t>(all.rlim_cur) - address_limit()->room + room);
    ASSERT_EQ(setrlimit(GetParam(), &limit), 0);
  }
  const char* option() const { return GetParam() == RLIMIT_AS ? "ulimit -v" : "ulimit -d"; }

 private:
  rlimit before_{};
};

TEST_P(AddressLimits, ShrinkPools) {
  EXPECT_EQ(pool_addresses(kGibibyte), kGibibyte);
  leave(3 * kGibibyte);
  EXPECT_EQ(address_limit()->name, option());
  EXPECT_NEAR(static_cast<double>(address_limit()->room), 3.0 * kGibibyte, kMebibyte);
  EXPECT_EQ(pool_addresses(kGibibyte), kGibibyte);
  EXPECT_NEAR(static_cast<double>(pool_addresses(94 * kGibibyte)), 1.5 * kGibibyte, kMebibyte);
}

TEST_P(AddressLimits, TooLowAreNamedWithTheLeast) {
  leave(40 * kMebibyte);
  try {
    pool_addresses(94 * kGibibyte);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    EXPECT_THAT(error.what(),
                testing::ContainsRegex(std::string(option()) + " [0-9]+ leaves .*least that is needed is " +
                                       option() + " [0-9]+"));
    const char* other = GetParam() == RLIMIT_AS ? "ulimit -d" : "ulimit -v";
    EXPECT_THAT(error.what(), testing::Not(testing::HasSubstr(other)));
  }
  // That much is enough.
  leave(129 * kMebibyte);
  EXPECT_GE(pool_addresses(94 * kGibibyte), 64 * kMebibyte);
}

// As under vm.overcommit_memory 2, where no limit of the process says how much there is.
TEST(PoolAddresses, AreHalfOfWhatTheHostMaps) {
  if (address_limit()) GTEST_SKIP() << "this shell has a limit of its own";
  const auto up_to = [](std::int64_t most) { return [most](std::int64_t bytes) { return bytes <= most; }; };
  EXPECT_EQ(pool_addresses(kGibibyte, up_to(kGibibyte)), kGibibyte);
  EXPECT_NEAR(static_cast<double>(pool_addresses(94 * kGibibyte, up_to(3 * kGibibyte))), 1.5 * kGibibyte,
              16 * kMebibyte);
  try {
    pool_addresses(94 * kGibibyte, up_to(40 * kMebibyte));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    EXPECT_THAT(error.what(), testing::HasSubstr("the least that is needed is 128.0 MiB"));
  }
  EXPECT_GE(pool_addresses(94 * kGibibyte, up_to(128 * kMebibyte)), 32 * kMebibyte);
  EXPECT_TRUE(system_maps(kMebibyte));
  EXPECT_FALSE(system_maps(std::int64_t{1} << 60));
}

INSTANTIATE_TEST_SUITE_P(OfAddressesAndData, AddressLimits, testing::Values(RLIMIT_AS, RLIMIT_DATA));

}  // namespace
}  // namespace autoglm
