// Copies and fills. What is pageable is read or written before the call returns, as CUDA does.
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/runtime/device_memory.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/interface.h"
#include "tests/cuda_on_host/runtime/queue.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

enum class Place { pageable, locked, device };

// Device memory must hold all of the bytes.
bool find_place(const void* pointer, std::size_t bytes, Place& place) {
  const auto range = find_range(pointer);
  if (!range) {
    place = Place::pageable;
    return reinterpret_cast<Address>(pointer) == real_address(reinterpret_cast<Address>(pointer));
  }
  place = range->card == Range::kHost ? Place::locked : Place::device;
  return place == Place::locked || covers(reinterpret_cast<Address>(pointer), bytes, -1);
}

bool kind_fits(cudaMemcpyKind kind, Place to, Place from) {
  const bool to_device = to == Place::device, from_device = from == Place::device;
  switch (kind) {
    case cudaMemcpyDefault:
      return true;
    case cudaMemcpyHostToHost:
      return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
      return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
      return !to_device && from_device;
    default:
      return to_device && from_device;
  }
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream,
                 bool waits) {
  Place target{}, source{};
  const auto queue = find_queue(stream);
  if (queue == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  if (!find_place(to, bytes, target) || !find_place(from, bytes, source) ||
      !kind_fits(kind, target, source)) {
    misused("cudaMemcpy", "has an operand outside of memory, or of another kind than it says");
    return report(cudaErrorInvalidValue);
  }
  void* const real_to = cuda_on_host_view(to);
  const void* const real_from = cuda_on_host_view(from);
  if (settings().bytes_only) {
    queue->push([] {});
  } else if (source == Place::pageable && target == Place::device && !settings().reads_host) {
    const auto* const begin = static_cast<const char*>(from);
    auto staged = std::make_shared<std::vector<char>>(begin, begin + bytes);
    queue->push([=, staged = std::move(staged)] { std::memcpy(real_to, staged->data(), bytes); });
  } else {
    queue->push([=] { std::memmove(real_to, real_from, bytes); });
  }
  const bool on_host = target != Place::device && source != Place::device;
  if (waits || target == Place::pageable || on_host) queue->synchronize();
  return outcome();
}

}  // namespace
}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  if (const cudaError_t status = enter("cudaMemcpy")) return status;
  return copy(to, from, bytes, kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (const cudaError_t status = enter("cudaMemcpyAsync")) return status;
  return copy(to, from, bytes, kind, stream, false);
}

cudaError_t cudaMemsetAsync(void* pointer, int value, std::size_t bytes, cudaStream_t stream) {
  if (const cudaError_t status = enter("cudaMemsetAsync")) return status;
  const auto queue = find_queue(stream);
  if (queue == nullptr) return report(cudaErrorInvalidResourceHandle);
  if (!cuda_on_host_covers(pointer, bytes, -1)) {
    misused("cudaMemset", "reaches outside of device memory");
    return report(cudaErrorInvalidValue);
  }
  if (!settings().bytes_only) {
    queue->push([=, real = cuda_on_host_view(pointer)] { std::memset(real, value, bytes); });
  }
  return outcome();
}

cudaError_t cudaMemset(void* pointer, int value, std::size_t bytes) {
  return cudaMemsetAsync(pointer, value, bytes, nullptr);
}

}  // extern "C"
