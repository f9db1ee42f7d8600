// LibTorch's CUDA allocator is our arena, on hosts without a GPU too: over ordinary memory here.
#include "sharding/cuda/cuda_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "sharding/memory/host_mapping.h"
#include "sharding/memory/job_memory.h"
#include "sharding/memory/out_of_memory.h"

namespace autoglm {
namespace {

TEST(CudaAllocator, IsOursForEveryWayThatLibTorchAsks) {
  namespace caching = c10::cuda::CUDACachingAllocator;
  install_job_memory();
  install_cuda_allocator(std::make_unique<Arena>(std::make_unique<HostMapping>(1 << 20), 1 << 20,
                                                 Arena::kCudaAlignment, "CUDA device 0"),
                         0);
  // The kernels' library must not bring its own allocator back when it is loaded.
  load_libtorch_cuda();
  c10::Allocator* allocator = caching::get();
  ASSERT_EQ(allocator, c10::GetAllocator(c10::kCUDA));
  const CategoryScope scope(MemoryCategory::slots);
  {
    const c10::DataPtr data = allocator->allocate(1000);
    EXPECT_TRUE(data.device().is_cuda());
    EXPECT_EQ(job_memory().statistics().device.use[MemoryCategory::slots], 1024);
    void* raw = caching::raw_alloc_with_stream(10, nullptr);
    EXPECT_EQ(static_cast<char*>(raw) - static_cast<char*>(data.get()), 1024);
    EXPECT_EQ(caching::getDeviceStats(0)
                  .allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
                  .current,
              1536);
    caching::raw_delete(raw);
  }
  EXPECT_EQ(job_memory().statistics().device.use.total, 0);
  EXPECT_EQ(job_memory().statistics().device.peak.total, 1536);
  EXPECT_EQ(allocator->allocate(0).get(), nullptr);
  EXPECT_THROW(allocator->allocate(2 << 20), OutOfMemory);
}

TEST(CublasWorkspace, IsSetOnceAndNoOtherIsTaken) {
  constexpr const char *kName = "CUBLAS_WORKSPACE_CONFIG", *kShared = "TORCH_CUBLASLT_UNIFIED_WORKSPACE";
  for (const char* name : {kName, kShared}) unsetenv(name);
  set_cublas_workspace();
  EXPECT_EQ(std::string(std::getenv(kName)), ":4096:8");
  EXPECT_EQ(std::string(std::getenv(kShared)), "1");
  set_cublas_workspace();
  setenv(kName, ":16:8", 1);
  EXPECT_THROW(set_cublas_workspace(), Error);
  setenv(kName, ":4096:8", 1);
  setenv(kShared, "0", 1);
  EXPECT_THROW(set_cublas_workspace(), Error);
  for (const char* name : {kName, kShared}) unsetenv(name);
}

}  // namespace
}  // namespace autoglm
