// The pretend cards keep to CUDA where tests lean on them, and refuse the rest. Run by run.sh.
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/cuda_on_host/runtime/interface.h"

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class PretendCard : public ::testing::Test {
 protected:
  void SetUp() override {
    ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
    ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&memory, kMiB), cudaSuccess);
  }
  void TearDown() override {
    EXPECT_EQ(cudaFree(memory), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
    static_cast<void>(cudaGetLastError());
  }
  float* floats() const { return static_cast<float*>(memory); }

  cudaStream_t stream = nullptr;
  void* memory = nullptr;
};

std::size_t free_bytes() {
  std::size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

TEST_F(PretendCard, HostCodeCannotReachItsMemory) {
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile float*>(memory)), "");
}

TEST_F(PretendCard, NewMemoryHoldsNoNumbers) {
  float value = 0;
  ASSERT_EQ(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(std::isnan(value));
}

TEST_F(PretendCard, MemoryIsChargedAndGivenBack) {
  const std::size_t before = free_bytes();
  void* more = nullptr;
  ASSERT_EQ(cudaMalloc(&more, 3 * kMiB), cudaSuccess);
  EXPECT_EQ(before - free_bytes(), 4 * kMiB);  // whole pieces of 2 MiB
  ASSERT_EQ(cudaFree(more), cudaSuccess);
  EXPECT_EQ(free_bytes(), before);
  EXPECT_EQ(cudaFree(more), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMalloc(&more, before + 4 * kMiB), cudaErrorMemoryAllocation);
}

TEST_F(PretendCard, CopiesStayInsideOfMemory) {
  std::vector<char> host(2 * kMiB);
  EXPECT_EQ(cudaMemcpy(memory, host.data(), 2 * kMiB, cudaMemcpyDefault), cudaSuccess);  // a piece of 2 MiB
  host.resize(3 * kMiB);
  EXPECT_EQ(cudaMemcpy(memory, host.data(), 3 * kMiB, cudaMemcpyDefault), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(memory, host.data(), 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(memory, 0, 3 * kMiB, stream), cudaErrorInvalidValue);
}

TEST_F(PretendCard, AnEventIsReadyWhenTheWorkBeforeItIsDone) {
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);  // never recorded
  const auto sleep = [](void*) { std::this_thread::sleep_for(std::chrono::milliseconds(50)); };
  ASSERT_EQ(cudaLaunchHostFunc(stream, sleep, nullptr), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // "not ready" is no error
  ASSERT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaErrorInvalidResourceHandle);
}

TEST_F(PretendCard, RefusesWhatItDoesNotEmulate) {
  cudaStream_t blocking = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&blocking, cudaStreamDefault), cudaErrorNotSupported);
  int value = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxPitch, 0), cudaErrorNotSupported);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
}

TEST_F(PretendCard, RefusesToLaunchWhatIsNoKernel) {
  void* arguments[] = {nullptr};
  EXPECT_EQ(cudaLaunchKernel(&kMiB, 1, 1, arguments, 0, stream), cudaErrorInvalidDeviceFunction);
}

// Libraries that stand before others are found by name, not linked.
template <typename Function>
Function* preloaded(Function*, const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}
#define PRELOADED(function) preloaded(static_cast<decltype(&function)>(nullptr), #function)

TEST_F(PretendCard, MultipliesWhatLiesInItsMemory) {
  cublasHandle_t handle = nullptr;
  ASSERT_EQ(PRELOADED(cublasCreate_v2)(&handle), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(PRELOADED(cublasSetStream_v2)(handle, stream), CUBLAS_STATUS_SUCCESS);
  const std::vector<float> a = {1, 2, 3, 4};  // column-major: 1 3 above 2 4
  ASSERT_EQ(cudaMemcpyAsync(memory, a.data(), 16, cudaMemcpyDefault, stream), cudaSuccess);
  const float one = 1, zero = 0;
  const auto square = [&](const float* from, float* to) {
    return PRELOADED(cublasSgemm_v2)(handle, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, from, 2, from, 2, &zero,
                                     to, 2);
  };
  EXPECT_EQ(square(floats(), floats() + 4), CUBLAS_STATUS_SUCCESS);
  std::vector<float> result(4);
  ASSERT_EQ(cudaMemcpyAsync(result.data(), floats() + 4, 16, cudaMemcpyDefault, stream), cudaSuccess);
  EXPECT_EQ(result, std::vector<float>({7, 10, 15, 22}));
  EXPECT_EQ(square(a.data(), floats()), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(square(floats(), floats() + 2 * kMiB / 4 - 2), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(PRELOADED(cublasDestroy_v2)(handle), CUBLAS_STATUS_SUCCESS);
}

// Where misuse stops the program: death tests begin the program again, which then reads this.
class StrictCard : public PretendCard {
 protected:
  void SetUp() override {
    setenv("CUDA_ON_HOST_MISUSE", "stop", 1);
    PretendCard::SetUp();
  }
  void TearDown() override {
    PretendCard::TearDown();
    unsetenv("CUDA_ON_HOST_MISUSE");
  }
};

TEST_F(StrictCard, TellsOfThreadsThatNeverSetTheirDevice) {
  const auto synchronize = [](bool sets) {
    std::thread([sets] {
      if (sets) cudaSetDevice(0);
      cudaDeviceSynchronize();
    }).join();
    std::exit(0);
  };
  EXPECT_DEATH(synchronize(false), "cudaDeviceSynchronize is called by a thread that never set its device");
  EXPECT_EXIT(synchronize(true), ::testing::ExitedWithCode(0), "");
}

TEST_F(StrictCard, TellsOfCallsInsideHostFunctions) {
  const auto call = [&] {
    cudaLaunchHostFunc(
        stream, [](void*) { cudaFree(nullptr); }, nullptr);
    cudaStreamSynchronize(stream);
  };
  EXPECT_DEATH(call(), "cudaFree is called inside a host function");
}

}  // namespace
