#include "sharding/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <utility>
#include <vector>

#include "base/error.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string refusal(DeviceRequest request, const CudaProbe& probe) {
  try {
    choose_cuda(request, probe);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::unavailable);
    return error.what();
  }
  return "";
}

TEST(ChooseCuda, FollowsTheRequestWhereItCan) {
  const CudaProbe none{}, gpu{true, 2, true, ""}, no_gpu{true, 0, false, "no driver"};
  EXPECT_TRUE(choose_cuda(DeviceRequest::automatic, gpu));
  EXPECT_TRUE(choose_cuda(DeviceRequest::cuda, gpu));
  EXPECT_FALSE(choose_cuda(DeviceRequest::cpu, gpu));
  EXPECT_FALSE(choose_cuda(DeviceRequest::automatic, no_gpu));
  EXPECT_FALSE(choose_cuda(DeviceRequest::automatic, none));
}

TEST(ChooseCuda, NeverFallsBackToTheCpuInSilence) {
  const CudaProbe no_driver{true, 0, true, "driver too old"};
  EXPECT_THAT(refusal(DeviceRequest::automatic, no_driver), HasSubstr("driver too old"));
  EXPECT_THAT(refusal(DeviceRequest::cuda, no_driver), HasSubstr("driver too old"));
  EXPECT_FALSE(choose_cuda(DeviceRequest::cpu, no_driver));
  EXPECT_THAT(refusal(DeviceRequest::cuda, {true, 0, false, ""}), HasSubstr("no device is visible"));
  EXPECT_THAT(refusal(DeviceRequest::cuda, {}), HasSubstr("built without CUDA"));
}

TEST(ChooseCuda, TellsADriverThatIsTooOldFromOneThatIsMissing) {
  CudaProbe probe{true,  0,    true, "CUDA driver version is insufficient for CUDA runtime version",
                  13000, 12040};
  for (const DeviceRequest request : {DeviceRequest::automatic, DeviceRequest::cuda}) {
    EXPECT_THAT(
        refusal(request, probe),
        AllOf(HasSubstr("its driver can run CUDA 12.4, but this program needs CUDA 13.0"),
              HasSubstr("driver 580 or newer"), HasSubstr("cuda-compat-13"), Not(HasSubstr("nvidia-smi"))));
  }
  probe.driver = 0;
  EXPECT_THAT(refusal(DeviceRequest::cuda, probe),
              HasSubstr("insufficient for CUDA runtime version: check nvidia-smi"));
  // The driver is new enough: something else is wrong.
  probe.driver = 13010;
  probe.problem = "";
  EXPECT_THAT(refusal(DeviceRequest::cuda, probe), HasSubstr("no device is visible: check nvidia-smi"));
}

TEST(ChooseCudaDevice, IsTheLocalRankOrTheOnlyVisibleOne) {
  EXPECT_EQ(choose_cuda_device(0, 4, 4), 0);
  EXPECT_EQ(choose_cuda_device(3, 4, 8), 3);
  EXPECT_EQ(choose_cuda_device(3, 4, 1), 0);
  EXPECT_THROW(choose_cuda_device(1, 4, 3), Error);
}

TEST(DeviceSharers, AreRanksOfOneHostOnOneCardOrDevice) {
  const std::vector<DevicePlace> all = {
      {"one", "3B", "a"}, {"one", "3B", "a"}, {"one", "3B", "b"}, {"one", "5E", "c"}, {"two", "3B", "d"}};
  const auto sharers = [&](std::size_t rank) {
    const DeviceSharers found = count_sharers(all, rank);
    return std::pair(found.of_card, found.of_device);
  };
  EXPECT_EQ(sharers(0), std::pair(3, 2));
  EXPECT_EQ(sharers(2), std::pair(3, 1));
  EXPECT_EQ(sharers(3), std::pair(1, 1));
  EXPECT_EQ(sharers(4), std::pair(1, 1));
}

TEST(DeviceSharers, AreRefusedUnlessNcclTakesThemForHosts) {
  EXPECT_NO_THROW(check_sharers({1, 1}, "node7", "cuda:0 A card", false));
  EXPECT_NO_THROW(check_sharers({2, 2}, "node7", "cuda:0 A card", true));
  for (const DeviceSharers sharers : {DeviceSharers{2, 2}, DeviceSharers{2, 1}}) {
    try {
      check_sharers(sharers, "node7", "cuda:0 A card", false);
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::unavailable);
      EXPECT_THAT(error.what(), HasSubstr("2 ranks on node7 share one card (cuda:0 A card)"));
    }
  }
}

class Hardware : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(root / "sys/bus/pci/devices"); }
  void TearDown() override { fs::remove_all(root); }
  void add(const std::string& address, const std::string& vendor, const std::string& device_class) {
    fs::create_directories(root / "sys/bus/pci/devices" / address);
    std::ofstream(root / "sys/bus/pci/devices" / address / "vendor") << vendor << "\n";
    std::ofstream(root / "sys/bus/pci/devices" / address / "class") << device_class << "\n";
  }
  fs::path root =
      fs::path(::testing::TempDir()) /
      ("hardware_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(Hardware, OtherDevicesAreNotNvidiaGpus) {
  EXPECT_FALSE(nvidia_hardware_present(root / "nowhere"));
  EXPECT_FALSE(nvidia_hardware_present(root));
  add("0000:00:02.0", "0x8086", "0x030000");  // another vendor's GPU
  add("0000:01:00.1", "0x10de", "0x040300");  // an NVIDIA card's sound function
  EXPECT_FALSE(nvidia_hardware_present(root));
}

TEST_F(Hardware, IsSeenOnThePciBus) {
  add("0000:01:00.0", "0x10de", "0x030200");
  EXPECT_TRUE(nvidia_hardware_present(root));
}

TEST_F(Hardware, IsSeenByItsDeviceNode) {
  fs::create_directories(root / "dev");
  std::ofstream(root / "dev/nvidia0") << "";
  EXPECT_TRUE(nvidia_hardware_present(root));
}

}  // namespace
}  // namespace autoglm
