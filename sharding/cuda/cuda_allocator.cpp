#include "sharding/cuda/cuda_allocator.h"

#include <c10/core/Allocator.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "sharding/cuda/cublas_workspace.h"
#include "sharding/cuda/cuda_memory.h"
#include "sharding/memory/job_memory.h"

namespace autoglm {
namespace {

namespace caching = c10::cuda::CUDACachingAllocator;

constexpr std::uint8_t kPriority = 100;

// What LibTorch demands of a CUDA allocator. Graph capture, sharing between processes and histories are not
// for this program: they fail with their name.
class ArenaAllocator final : public caching::CUDAAllocator {
 public:
  ArenaAllocator(Arena& arena, c10::DeviceIndex device) : arena_(arena), device_(device) {}

  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = raw_alloc(bytes);
    return {data, data, &release, c10::Device(c10::kCUDA, device_)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    C10_CUDA_CHECK(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, c10::cuda::getCurrentCUDAStream(device_)));
  }
  void* raw_alloc(std::size_t bytes) override {
    return bytes == 0 ? nullptr : arena_.allocate(static_cast<std::int64_t>(bytes));
  }
  void* raw_alloc_with_stream(std::size_t bytes, cudaStream_t) override { return raw_alloc(bytes); }
  void raw_delete(void* data) override { release(data); }

  void init(int) override {}
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void enable(bool) override {}
  bool isEnabled() const override { return true; }
  void recordStream(const c10::DataPtr&, c10::cuda::CUDAStream) override {}
  std::string name() override { return "autoglm"; }

  double getMemoryFraction(c10::DeviceIndex) override { return 1; }
  void setMemoryFraction(double, c10::DeviceIndex) override {}
  std::vector<caching::StreamSegmentSize> getExpandableSegmentSizes(c10::DeviceIndex) override { return {}; }
  // Asked by cuDNN before it chooses an algorithm.
  void cacheInfo(c10::DeviceIndex, std::size_t* largest) override {
    const ArenaStatistics now = arena_.statistics();
    *largest = static_cast<std::size_t>(now.limit - now.use.total);
  }
  void* getBaseAllocation(void* data, std::size_t* bytes) override {
    if (bytes != nullptr) *bytes = 0;
    return data;
  }

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override {
    const ArenaStatistics now = arena_.statistics();
    c10::CachingDeviceAllocator::DeviceStats stats;
    const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    stats.allocated_bytes[all].current = now.use.total;
    stats.allocated_bytes[all].peak = now.peak.total;
    return stats;
  }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override { arena_.reset_peak(); }
  caching::SnapshotInfo snapshot(c10::MempoolId_t, bool) override { return {}; }

  void beginAllocateToPool(c10::DeviceIndex, c10::MempoolId_t, std::function<bool(cudaStream_t)>) override {
    unsupported("beginAllocateToPool");
  }
  void endAllocateToPool(c10::DeviceIndex, c10::MempoolId_t) override { unsupported("endAllocateToPool"); }
  void releasePool(c10::DeviceIndex, c10::MempoolId_t) override { unsupported("releasePool"); }
  caching::ShareableHandle shareIpcHandle(void*) override { unsupported("shareIpcHandle"); }
  std::shared_ptr<void> getIpcDevPtr(std::string) override { unsupported("getIpcDevPtr"); }
  bool isHistoryEnabled() override { return false; }
  void recordHistory(bool, caching::CreateContextFn, std::size_t, caching::RecordContext, bool,
                     const std::vector<std::string>&) override {
    unsupported("recordHistory");
  }
  void attachOutOfMemoryObserver(caching::OutOfMemoryObserver) override {}
  void attachAllocatorTraceTracker(caching::AllocatorTraceTracker) override {}
  void enablePeerAccess(c10::DeviceIndex, c10::DeviceIndex) override {}
  cudaError_t memcpyAsync(void* to, int, const void* from, int, std::size_t bytes, cudaStream_t stream,
                          bool) override {
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  }
  std::shared_ptr<caching::AllocatorState> getCheckpointState(c10::DeviceIndex, c10::MempoolId_t) override {
    unsupported("getCheckpointState");
  }
  caching::CheckpointDelta setCheckpointPoolState(c10::DeviceIndex,
                                                  std::shared_ptr<caching::AllocatorState>) override {
    unsupported("setCheckpointPoolState");
  }

 private:
  [[noreturn]] static void unsupported(const char* what) {
    fail(ExitCode::bug, "the CUDA arena has no {}", what);
  }
  static void release(void* data) {
    if (data != nullptr) job_memory().device().release(static_cast<char*>(data));
  }

  Arena& arena_;
  c10::DeviceIndex device_;
};

std::string libtorch_folder() {
  Dl_info info{};
  const bool found = dladdr(reinterpret_cast<const void*>(&c10::SetAllocator), &info) != 0;
  AUTOGLM_CHECK(found && info.dli_fname != nullptr, "LibTorch is not a shared library");
  return std::filesystem::path(info.dli_fname).parent_path();
}

void require_setting(const char* name, const std::string& value) {
  const char* const set = std::getenv(name);
  if (set != nullptr && value != set) {
    fail(ExitCode::usage, "{}={} is not what memory is planned with, {}: unset it", name, set, value);
  }
  setenv(name, value.c_str(), 1);
}

}  // namespace

void install_cuda_allocator(std::unique_ptr<Arena> arena, int device) {
  // LibTorch keeps a plain pointer for the life of the process, also while it is torn down.
  auto* allocator = std::make_unique<ArenaAllocator>(*arena, static_cast<c10::DeviceIndex>(device)).release();
  job_memory().use_device(std::move(arena));
  caching::allocator.store(allocator);
  c10::SetAllocator(c10::kCUDA, allocator, kPriority);
}

void set_cublas_workspace() {
  constexpr std::int64_t kPieces = 8, kPieceKibibytes = 4096;
  static_assert(kPieces * kPieceKibibytes * 1024 == kCublasWorkspaceBytes);
  require_setting("CUBLAS_WORKSPACE_CONFIG", fmt::format(":{}:{}", kPieceKibibytes, kPieces));
  // cuBLASLt, which adds biases, works in it too, instead of in memory of its own.
  require_setting("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "1");
}

void install_cuda_arena(int device, std::int64_t limit) {
  set_cublas_workspace();
  load_libtorch_cuda();
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
  install_cuda_allocator(
      std::make_unique<Arena>(make_cuda_memory(device, limit), limit, Arena::kCudaAlignment,
                              fmt::format("CUDA device {}", device)),
      device);
}

void load_libtorch_cuda() {
  static const bool loaded = [] {
    const std::string file = libtorch_folder() + "/libtorch_cuda.so";
    if (dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      fail(ExitCode::unavailable, "LibTorch's CUDA kernels cannot be loaded: {}; install its CUDA build",
           dlerror());
    }
    return true;
  }();
  static_cast<void>(loaded);
}

}  // namespace autoglm
