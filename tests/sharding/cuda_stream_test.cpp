// Runs everywhere: without a driver the program must start all the same and say what is missing; with one,
// streams and events of the device must keep the promises of stream.h.
#include "sharding/cuda/cuda_stream.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/error.h"
#include "sharding/communicator.h"
#include "sharding/cuda/cuda_check.h"
#include "sharding/cuda/cuda_devices.h"

namespace autoglm {
namespace {

TEST(CudaDevices, AreCountedOrTheirAbsenceIsExplained) {
  const CudaProbe probe = probe_cuda();
  EXPECT_TRUE(probe.built);
  if (probe.num_devices == 0) {
    EXPECT_NE(probe.problem, "");
    EXPECT_THROW(choose_cuda(DeviceRequest::cuda, probe), Error);
  } else {
    EXPECT_TRUE(choose_cuda(DeviceRequest::automatic, probe));
  }
}

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (probe_cuda().num_devices == 0) GTEST_SKIP() << "no CUDA device";
    AUTOGLM_CUDA_CHECK(cudaMalloc(&device, bytes));
    AUTOGLM_CUDA_CHECK(cudaMallocHost(&host, bytes));
    std::memset(host, 0, bytes);
  }
  void TearDown() override {
    static_cast<void>(cudaFree(device));
    static_cast<void>(cudaFreeHost(host));
  }
  char* bytes_of_host() const { return static_cast<char*>(host); }

  static constexpr std::size_t bytes = std::size_t{64} << 20;
  void* device = nullptr;
  void* host = nullptr;
};

TEST_F(Cuda, CopiesInOrderAndAnEventTellsTheEnd) {
  const auto stream = make_cuda_stream(0);
  std::memset(host, 7, bytes);
  stream->copy(device, host, bytes);
  stream->record().synchronize();
  std::memset(host, 0, bytes);
  stream->copy(host, device, bytes);
  const Event event = stream->record();
  event.synchronize();
  EXPECT_TRUE(event.ready());
  EXPECT_EQ(bytes_of_host()[bytes - 1], 7);
}

TEST_F(Cuda, StreamsWaitForEachOther) {
  const auto first = make_cuda_stream(0), second = make_cuda_stream(0, true);
  std::vector<char> result(bytes);
  first->submit([&] {
    AUTOGLM_CUDA_CHECK(cudaMemsetAsync(device, 5, bytes, static_cast<cudaStream_t>(first->native_handle())));
  });
  second->wait(first->record());
  second->copy(host, device, bytes);
  second->synchronize();
  EXPECT_EQ(bytes_of_host()[bytes - 1], 5);
}

TEST_F(Cuda, WaitsForHostStreamsWithoutBlockingTheCaller) {
  const auto worker = make_host_stream("worker");
  const auto stream = make_cuda_stream(0);
  worker->submit([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    std::memset(host, 9, bytes);
  });
  stream->wait(worker->record());
  stream->copy(device, host, bytes);
  const Event event = stream->record();
  EXPECT_FALSE(event.ready());
  // And the other way round: a host stream waits for the device.
  char seen = 0;
  worker->wait(event);
  worker->submit([&] { AUTOGLM_CUDA_CHECK(cudaMemcpy(&seen, device, 1, cudaMemcpyDeviceToHost)); });
  worker->synchronize();
  EXPECT_EQ(seen, 9);
}

TEST_F(Cuda, OneRankCopiesOnTheDevice) {
  const auto stream = make_cuda_stream(0);
  const auto communicator = make_self_communicator(*stream);
  auto* const floats = static_cast<float*>(device);
  std::memset(host, 3, 16);
  stream->copy(device, host, 16);
  communicator->reduce_scatter(floats, floats + 4, 4, stream->record());
  stream->copy(bytes_of_host() + 16, floats + 4, 16);
  stream->synchronize();
  EXPECT_EQ(bytes_of_host()[31], 3);
}

// Last, because after a host event has failed, every CUDA stream of the process reports it.
TEST_F(Cuda, ReportsTheFailureOfAHostEvent) {
  const auto worker = make_host_stream("worker");
  const auto stream = make_cuda_stream(0);
  worker->submit([] { throw std::runtime_error("lost"); });
  stream->wait(worker->record());
  EXPECT_THAT([&] { stream->synchronize(); }, ::testing::ThrowsMessage<std::runtime_error>("lost"));
}

}  // namespace
}  // namespace autoglm
