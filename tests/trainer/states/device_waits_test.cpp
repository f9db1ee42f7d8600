// How long compute on a device has waited, where there is a device.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "sharding/cuda/cuda_devices.h"
#include "trainer/states/streams.h"

namespace autoglm {
namespace {

TEST(DeviceWaits, OfHostAndDeviceAtOnceCountOnce) {
  if (probe_cuda().num_devices == 0) GTEST_SKIP() << "no CUDA device";
  use_cuda_device(0);
  EngineStreams streams(at::Device(at::kCUDA, 0));
  const auto start = std::chrono::steady_clock::now();
  streams.host_work().submit([] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); });
  const Event done = streams.host_work().record();
  streams.wait_exposed(done);
  streams.wait_on_host(done);
  const double waited = streams.take_exposed_seconds();
  EXPECT_GT(waited, 0.1);
  EXPECT_LE(waited, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

TEST(DeviceWaits, OfTheHostCountWhileTheDeviceIsIdle) {
  if (probe_cuda().num_devices == 0) GTEST_SKIP() << "no CUDA device";
  use_cuda_device(0);
  EngineStreams streams(at::Device(at::kCUDA, 0));
  streams.host_work().submit([] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); });
  streams.wait_on_host(streams.host_work().record());
  EXPECT_GT(streams.take_exposed_seconds(), 0.1);
  EXPECT_EQ(streams.take_exposed_seconds(), 0);
}

}  // namespace
}  // namespace autoglm
