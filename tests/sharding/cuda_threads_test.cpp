// On which device threads leave contexts. The runtime is one of this file's, with eight devices that hold
// nothing: a context on a device that is not the rank's takes half a gigabyte from the rank that it belongs to.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "sharding/cuda/cuda_check.h"
#include "sharding/cuda/cuda_stream.h"

namespace autoglm {
namespace {

constexpr int kDevice = 3;

std::mutex contexts_mutex;
std::set<int> contexts;
thread_local int device_of_thread = 0;
thread_local bool device_was_set = false;

// As CUDA has it since version 12: what needs a context makes that of the thread's device.
cudaError_t in_context() {
  const std::lock_guard lock(contexts_mutex);
  contexts.insert(device_of_thread);
  return cudaSuccess;
}

template <typename Handle>
cudaError_t make_handle(Handle* handle) {
  static char place = 0;
  *handle = reinterpret_cast<Handle>(&place);
  return in_context();
}

// In a thread of its own, as the communicators', the host's sums and the watch over NCCL have.
std::set<int> contexts_after(const std::function<void()>& work) {
  contexts.clear();
  std::thread(work).join();
  return contexts;
}

using ::testing::ElementsAre;

TEST(CudaThreads, KeepToTheDeviceOfWhatTheyWaitFor) {
  device_of_thread = kDevice;
  const auto stream = make_cuda_stream(kDevice);
  const Event event = stream->record();
  EXPECT_THAT(contexts_after([&] { event.synchronize(); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { static_cast<void>(event.ready()); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { stream->wait(event); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { stream->synchronize(); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { stream->submit([] { in_context(); }); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] {
                char from = 0, to = 0;
                stream->copy(&to, &from, 1);
              }),
              ElementsAre(kDevice));
}

TEST(CudaThreads, KeepToTheDeviceOfWhatTheyEnd) {
  device_of_thread = kDevice;
  auto stream = make_cuda_stream(kDevice);
  auto watch = make_cuda_stopwatch(kDevice);
  Event event = stream->record();
  EXPECT_THAT(contexts_after([&] { event = Event(); }), ElementsAre(kDevice));
  watch->start(*stream);
  watch->stop(*stream);
  EXPECT_THAT(contexts_after([&] { watch->take_seconds(); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { watch.reset(); }), ElementsAre(kDevice));
  EXPECT_THAT(contexts_after([&] { stream.reset(); }), ElementsAre(kDevice));
}

// Nobody else need know that device 0 is what threads begin with.
TEST(CudaThreads, SayTheirDeviceOfDevice0Too) {
  const auto stream = make_cuda_stream(0);
  bool said = false;
  std::thread([&] {
    stream->synchronize();
    said = device_was_set;
  }).join();
  EXPECT_TRUE(said);
}

TEST(CudaThreads, DoNotGoBackToWhereTheyBegan) {
  const auto stream = make_cuda_stream(kDevice);
  EXPECT_THAT(contexts_after([&] {
                stream->record();
                in_context();
              }),
              ElementsAre(kDevice));
}

}  // namespace
}  // namespace autoglm

// The program's own definitions stand before those of the library.
extern "C" {
using autoglm::in_context;

cudaError_t cudaGetDevice(int* device) {
  *device = autoglm::device_of_thread;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  autoglm::device_of_thread = device;
  autoglm::device_was_set = true;
  return in_context();
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = *greatest = 0;
  return in_context();
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return autoglm::make_handle(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return in_context();
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return in_context();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return in_context();
}
cudaError_t cudaMemcpyAsync(void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t) {
  return in_context();
}
cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return autoglm::make_handle(event);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return autoglm::make_handle(event);
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return in_context();
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  return in_context();
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
  return in_context();
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return in_context();
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return in_context();
}
}
