#include "sharding/cuda/cuda_memory.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "base/math.h"
#include "base/units.h"
#include "sharding/cuda/cuda_check.h"

namespace autoglm {
namespace {

// The driver's functions are asked for by name: a program that is linked to the driver's library would not
// start where there is none.
template <typename Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSince = 12000;  // the interface's version, not the driver's
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion(name, &function, kSince, cudaEnableDefault, &found);
  if (status != cudaSuccess || found != cudaDriverEntryPointSuccess || function == nullptr) {
    static_cast<void>(cudaGetLastError());
    return nullptr;
  }
  return reinterpret_cast<Function>(function);
}

struct VirtualMemoryDriver {
  decltype(&cuMemAddressReserve) reserve =
      driver_function<decltype(&cuMemAddressReserve)>("cuMemAddressReserve");
  decltype(&cuMemAddressFree) unreserve = driver_function<decltype(&cuMemAddressFree)>("cuMemAddressFree");
  decltype(&cuMemCreate) create = driver_function<decltype(&cuMemCreate)>("cuMemCreate");
  decltype(&cuMemRelease) release = driver_function<decltype(&cuMemRelease)>("cuMemRelease");
  decltype(&cuMemMap) map = driver_function<decltype(&cuMemMap)>("cuMemMap");
  decltype(&cuMemUnmap) unmap = driver_function<decltype(&cuMemUnmap)>("cuMemUnmap");
  decltype(&cuMemSetAccess) set_access = driver_function<decltype(&cuMemSetAccess)>("cuMemSetAccess");

  bool complete() const {
    return reserve != nullptr && unreserve != nullptr && create != nullptr && release != nullptr &&
           map != nullptr && unmap != nullptr && set_access != nullptr;
  }
};

// Addresses are reserved once; physical memory is mapped behind them piece by piece.
class VirtualMemory final : public Backing {
 public:
  static constexpr std::int64_t kPiece = kCudaMemoryPiece;

  // Null when the device or the driver cannot do it. One that is merely full can.
  static std::unique_ptr<Backing> make(int device, std::int64_t capacity) {
    std::unique_ptr<VirtualMemory> memory(new VirtualMemory(device, capacity));
    if (!memory->driver_.complete() || !memory->reserve()) return nullptr;
    if (!memory->map_piece() && !memory->full_) return nullptr;
    return memory;
  }

  ~VirtualMemory() override {
    while (backed_ > 0) unmap_piece();
    if (address_ != 0) static_cast<void>(driver_.unreserve(address_, static_cast<std::size_t>(reserved_)));
  }

  std::int64_t backed(std::int64_t) const override { return backed_; }

  std::string take(std::int64_t offset, std::int64_t bytes) override {
    while (backed_ < offset + bytes) {
      if (map_piece()) continue;
      capacity_ = backed_;
      return "the device gives no more";
    }
    return {};
  }

  void trim_end(std::int64_t top) override {
    const std::int64_t kept = std::max(round_up(top, kPiece), kPiece);
    // What was freed may still be read by work on the device.
    if (backed_ > kept) static_cast<void>(cudaDeviceSynchronize());
    while (backed_ > kept) unmap_piece();
  }

 private:
  VirtualMemory(int device, std::int64_t capacity)
      : Backing(nullptr, round_up(capacity, kPiece)), reserved_(capacity_) {
    location_.type = CU_MEM_LOCATION_TYPE_DEVICE;
    location_.id = device;
  }

  bool reserve() {
    if (driver_.reserve(&address_, static_cast<std::size_t>(reserved_), 0, 0, 0) != CUDA_SUCCESS)
      return false;
    base_ = reinterpret_cast<char*>(address_);
    return true;
  }

  bool map_piece() {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location = location_;
    CUmemGenericAllocationHandle handle{};
    const CUresult created = driver_.create(&handle, kPiece, &properties, 0);
    full_ = created == CUDA_ERROR_OUT_OF_MEMORY;
    if (created != CUDA_SUCCESS) return false;
    const CUdeviceptr at = address_ + static_cast<CUdeviceptr>(backed_);
    if (driver_.map(at, kPiece, 0, handle, 0) != CUDA_SUCCESS) {
      static_cast<void>(driver_.release(handle));
      return false;
    }
    CUmemAccessDesc access{};
    access.location = location_;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (driver_.set_access(at, kPiece, &access, 1) != CUDA_SUCCESS) {
      static_cast<void>(driver_.unmap(at, kPiece));
      static_cast<void>(driver_.release(handle));
      return false;
    }
    handles_.push_back(handle);
    backed_ += kPiece;
    return true;
  }

  void unmap_piece() {
    backed_ -= kPiece;
    static_cast<void>(driver_.unmap(address_ + static_cast<CUdeviceptr>(backed_), kPiece));
    static_cast<void>(driver_.release(handles_.back()));
    handles_.pop_back();
  }

  VirtualMemoryDriver driver_;
  CUmemLocation location_{};
  std::int64_t reserved_;  // bytes of addresses
  std::int64_t backed_ = 0;
  bool full_ = false;  // the device had no more piece
  CUdeviceptr address_ = 0;
  std::vector<CUmemGenericAllocationHandle> handles_;
};

// One allocation of everything.
class WholeMemory final : public Backing {
 public:
  explicit WholeMemory(std::int64_t capacity) : Backing(nullptr, capacity) {
    const cudaError_t status = cudaMalloc(&base_, static_cast<std::size_t>(capacity));
    if (status == cudaSuccess) return;
    static_cast<void>(cudaGetLastError());
    const bool full = status == cudaErrorMemoryAllocation;
    fail(full ? ExitCode::does_not_fit : ExitCode::unavailable,
         "cannot allocate {} on the device: {}; name less with --memory-limit", format_bytes(capacity),
         cudaGetErrorString(status));
  }
  ~WholeMemory() override { static_cast<void>(cudaFree(base_)); }

  std::int64_t backed(std::int64_t) const override { return capacity_; }
};

class CudaLockedMapping final : public LockedMapping {
 public:
  explicit CudaLockedMapping(int num_threads) : num_threads_(std::max(1, num_threads)) {}

 private:
  std::string lock(char* data, std::int64_t bytes) override {
    touch(data, bytes);
    const cudaError_t status =
        cudaHostRegister(data, static_cast<std::size_t>(bytes), cudaHostRegisterPortable);
    if (status == cudaSuccess) return {};
    static_cast<void>(cudaGetLastError());
    return cudaGetErrorString(status);
  }

  void unlock(char* data, std::int64_t) override { static_cast<void>(cudaHostUnregister(data)); }

  // Writes nothing but zeros to where nothing else is. Threads take huge pages in turns: a page comes from the socket of
  // the thread that touches it, and what is computed on at a time should come from all of them.
  void touch(char* data, std::int64_t bytes) const {
    constexpr std::int64_t kPage = 4096, kHugePage = std::int64_t{2} << 20, kLeast = std::int64_t{64} << 20;
    const std::int64_t threads = std::clamp<std::int64_t>(bytes / kLeast, 1, num_threads_);
    const auto part = [=](std::int64_t first) {
      for (std::int64_t huge = first * kHugePage; huge < bytes; huge += threads * kHugePage) {
        for (std::int64_t at = huge; at < std::min(huge + kHugePage, bytes); at += kPage)
          *const_cast<volatile char*>(data + at) = 0;
      }
    };
    std::vector<std::thread> others;
    for (std::int64_t i = 1; i < threads; ++i) others.emplace_back(part, i);
    part(0);
    for (std::thread& other : others) other.join();
  }

  int num_threads_;
};

}  // namespace

std::unique_ptr<Backing> make_cuda_memory(int device, std::int64_t capacity) {
  if (auto memory = VirtualMemory::make(device, capacity)) return memory;
  const std::int64_t free = cuda_device_bytes().free;
  return std::make_unique<WholeMemory>(std::min(capacity, free - free / 16));
}

std::unique_ptr<LockedMapping> make_cuda_locked_mapping(int num_threads) {
  return std::make_unique<CudaLockedMapping>(num_threads);
}

DeviceBytes cuda_device_bytes() {
  std::size_t free = 0, total = 0;
  AUTOGLM_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

}  // namespace autoglm
