// Memory of cards and page-locked memory of the host, as the program calls them.
#include <cstdlib>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/device_memory.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/queue.h"
#include "tests/cuda_on_host/runtime/settings.h"
#include "tests/cuda_on_host/runtime/shortage.h"

using namespace cuda_on_host;

namespace {

Address address(const void* pointer) {
  return reinterpret_cast<Address>(pointer);
}

std::size_t rounded(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// Where nothing is computed, what lies in large page-locked memory is never asked for.
bool holds_nothing(std::size_t bytes) {
  constexpr std::size_t kLarge = std::size_t{1} << 20;
  return settings().bytes_only && bytes >= kLarge;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  *pointer = nullptr;
  if (const cudaError_t status = enter("cudaMalloc")) return status;
  if (bytes == 0) return cudaSuccess;
  const std::size_t whole = rounded(bytes, kGranularity);
  if (finds_none(Taker::memory) || !charge(current_card(), static_cast<std::int64_t>(whole))) {
    return report(cudaErrorMemoryAllocation);
  }
  const Address at = take_addresses(whole);
  back_with_memory(at, whole);
  add_range(at, {whole, current_card(), true});
  *pointer = reinterpret_cast<void*>(at);
  return cudaSuccess;
}

cudaError_t cudaFree(void* pointer) {
  const cudaError_t entered = enter("cudaFree");
  if (pointer == nullptr) return entered;
  const auto found = find_range(pointer);
  if (!found || found->card == Range::kHost || !found->owned) return report(cudaErrorInvalidValue);
  synchronize_card(found->card);
  const auto range = remove_range(address(pointer));
  if (!range) return report(cudaErrorInvalidValue);
  take_memory_away(address(pointer), range->bytes);
  charge(range->card, -static_cast<std::int64_t>(range->bytes));
  return entered;
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned) {
  if (const cudaError_t status = enter("cudaHostAlloc")) return status;
  constexpr std::size_t kPage = 4096;
  const std::size_t whole = rounded(bytes, kPage);
  *pointer = std::aligned_alloc(kPage, whole);
  if (*pointer == nullptr) return report(cudaErrorMemoryAllocation);
  add_range(address(*pointer), {whole, Range::kHost, true});
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  return cudaHostAlloc(pointer, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void* pointer) {
  const cudaError_t entered = enter("cudaFreeHost");
  if (pointer == nullptr) return entered;
  const auto found = find_range(pointer);
  if (!found || found->card != Range::kHost || !found->owned) return report(cudaErrorInvalidValue);
  synchronize_card(current_card());
  if (!remove_range(address(pointer))) return report(cudaErrorInvalidValue);
  std::free(pointer);
  return entered;
}

cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned) {
  if (const cudaError_t status = enter("cudaHostRegister")) return status;
  if (pointer == nullptr || bytes == 0) return report(cudaErrorInvalidValue);
  if (!add_range(address(pointer), {bytes, Range::kHost, false})) {
    return report(cudaErrorHostMemoryAlreadyRegistered);
  }
  if (holds_nothing(bytes)) share_pages(pointer, bytes);
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* pointer) {
  const cudaError_t entered = enter("cudaHostUnregister");
  const auto found = find_range(pointer);
  if (!found || found->card != Range::kHost || found->owned || !remove_range(address(pointer))) {
    return report(cudaErrorHostMemoryNotRegistered);
  }
  if (holds_nothing(found->bytes)) own_pages(pointer, found->bytes);
  return entered;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  *attributes = {};
  const auto range = find_range(pointer);
  void* const plain = const_cast<void*>(pointer);
  if (!range) {
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = -2;
    attributes->hostPointer = plain;
    return cudaSuccess;
  }
  const bool host = range->card == Range::kHost;
  attributes->type = host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  attributes->device = host ? current_card() : range->card;
  attributes->devicePointer = plain;
  attributes->hostPointer = host ? plain : nullptr;
  return cudaSuccess;
}

}  // extern "C"
