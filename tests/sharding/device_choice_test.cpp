#include "sharding/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"

namespace autoglm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

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

TEST(ChooseCudaDevice, IsTheLocalRankOrTheOnlyVisibleOne) {
  EXPECT_EQ(choose_cuda_device(0, 4, 4), 0);
  EXPECT_EQ(choose_cuda_device(3, 4, 8), 3);
  EXPECT_EQ(choose_cuda_device(3, 4, 1), 0);
  EXPECT_THROW(choose_cuda_device(1, 4, 3), Error);
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
