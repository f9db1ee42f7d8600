// What a job takes of a device, and the choice of one on hosts without any.
#include "launcher/job/job_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;

TEST(DeviceLimit, SharesWhatIsFreeAndKeepsWhatTheArenaHas) {
  EXPECT_EQ(device_limit(70 * kGibibyte, 0, 1), 70 * kGibibyte - kGibibyte / 2);
  EXPECT_EQ(device_limit(70 * kGibibyte, kGibibyte, 2), 36 * kGibibyte - kGibibyte / 2);
  EXPECT_EQ(device_limit(kGibibyte / 4, 0, 1), std::int64_t{1} << 20);
}

TEST(DeviceLimit, OtherProgramsAreToldFromContexts) {
  EXPECT_EQ(bytes_of_others(kGibibyte / 2, 1), 0);
  EXPECT_EQ(bytes_of_others(20 * kGibibyte, 1), 20 * kGibibyte);
  EXPECT_EQ(bytes_of_others(3 * kGibibyte / 2, 2), 0);
}

TEST(JobDevice, ComputesOnTheCpuWhereThatIsAskedFor) {
  const auto control = make_self_communicator();
  const JobDevice device({DeviceRequest::cpu, 64 * (std::int64_t{1} << 20), 1}, {}, *control);
  EXPECT_FALSE(device.is_cuda());
  EXPECT_EQ(device.name(), "cpu");
  EXPECT_EQ(device.fixed_bytes(), 0);
  EXPECT_EQ(device.backed_bytes_for(1000), 1000);
  EXPECT_EQ(job_memory().statistics().device.limit, 64 * (std::int64_t{1} << 20));
}

TEST(JobDevice, RefusesALimitThatHoldsNothing) {
  const auto control = make_self_communicator();
  for (const std::int64_t limit : {1000, (1 << 20) - 1})
    EXPECT_THROW(JobDevice({DeviceRequest::cpu, limit, 1}, {}, *control), Error);
}

TEST(JobDevice, LetsNcclAddOnlyBetweenGpus) {
  const auto control = make_self_communicator();
  EXPECT_THROW(JobDevice({DeviceRequest::cpu, std::nullopt, 1, ReduceScatter::nccl}, {}, *control), Error);
}

}  // namespace
}  // namespace autoglm
