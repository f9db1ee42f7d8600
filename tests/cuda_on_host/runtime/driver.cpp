// The driver's functions, which programs ask for by name: virtual memory, and refusals of all others.
#include <cuda.h>

#include <array>
#include <cstdio>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/device_memory.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/settings.h"
#include "tests/cuda_on_host/runtime/shortage.h"

namespace cuda_on_host {
namespace {

struct Physical {
  std::size_t bytes = 0;
  int card = 0;
  bool mapped = false, released = false;
};

std::mutex g_mutex;
std::map<Address, std::size_t>& reserved() {
  static auto* reserved = new std::map<Address, std::size_t>;
  return *reserved;
}
std::map<CUmemGenericAllocationHandle, Physical>& physical() {
  static auto* physical = new std::map<CUmemGenericAllocationHandle, Physical>;
  return *physical;
}
std::map<Address, CUmemGenericAllocationHandle>& mappings() {
  static auto* mappings = new std::map<Address, CUmemGenericAllocationHandle>;
  return *mappings;
}

bool is_reserved(Address at, std::size_t bytes) {
  auto it = reserved().upper_bound(at);
  return it != reserved().begin() && at + bytes <= std::prev(it)->first + std::prev(it)->second;
}

// Memory goes when it is neither mapped nor held.
void settle(CUmemGenericAllocationHandle handle) {
  const auto it = physical().find(handle);
  if (it->second.mapped || !it->second.released) return;
  charge(it->second.card, -static_cast<std::int64_t>(it->second.bytes));
  physical().erase(it);
}

CUresult reserve(CUdeviceptr* at, std::size_t bytes, std::size_t, CUdeviceptr, unsigned long long) {
  if (bytes == 0 || bytes % kGranularity != 0) return CUDA_ERROR_INVALID_VALUE;
  *at = take_addresses(bytes);
  const std::lock_guard lock(g_mutex);
  reserved()[*at] = bytes;
  return CUDA_SUCCESS;
}

CUresult unreserve(CUdeviceptr at, std::size_t bytes) {
  const std::lock_guard lock(g_mutex);
  const auto it = reserved().find(at);
  if (it == reserved().end() || it->second != bytes) return CUDA_ERROR_INVALID_VALUE;
  const auto inside = mappings().lower_bound(at);
  if (inside != mappings().end() && inside->first < at + bytes) return CUDA_ERROR_INVALID_VALUE;
  reserved().erase(it);
  return CUDA_SUCCESS;
}

CUresult create(CUmemGenericAllocationHandle* handle, std::size_t bytes,
                const CUmemAllocationProp* properties, unsigned long long) {
  if (bytes == 0 || bytes % kGranularity != 0) return CUDA_ERROR_INVALID_VALUE;
  if (properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) return CUDA_ERROR_NOT_SUPPORTED;
  const int card = properties->location.id;
  if (card < 0 || card >= settings().cards) return CUDA_ERROR_INVALID_DEVICE;
  if (!ensure_context(card) || finds_none(Taker::memory) || !charge(card, static_cast<std::int64_t>(bytes)))
    return CUDA_ERROR_OUT_OF_MEMORY;
  static CUmemGenericAllocationHandle last = 0;
  const std::lock_guard lock(g_mutex);
  *handle = ++last;
  physical()[*handle] = {bytes, card};
  return CUDA_SUCCESS;
}

CUresult release(CUmemGenericAllocationHandle handle) {
  const std::lock_guard lock(g_mutex);
  const auto it = physical().find(handle);
  if (it == physical().end() || it->second.released) return CUDA_ERROR_INVALID_VALUE;
  it->second.released = true;
  settle(handle);
  return CUDA_SUCCESS;
}

CUresult map(CUdeviceptr at, std::size_t bytes, std::size_t offset, CUmemGenericAllocationHandle handle,
             unsigned long long) {
  const std::lock_guard lock(g_mutex);
  const auto it = physical().find(handle);
  if (it == physical().end() || it->second.bytes != bytes || offset != 0) return CUDA_ERROR_INVALID_VALUE;
  if (it->second.mapped) return CUDA_ERROR_NOT_SUPPORTED;  // twice: not emulated
  if (!is_reserved(at, bytes) || mappings().count(at) != 0) return CUDA_ERROR_INVALID_VALUE;
  mappings()[at] = handle;
  it->second.mapped = true;
  return CUDA_SUCCESS;
}

CUresult unmap(CUdeviceptr at, std::size_t bytes) {
  const std::lock_guard lock(g_mutex);
  for (auto it = mappings().lower_bound(at); it != mappings().end() && it->first < at + bytes;) {
    Physical& piece = physical()[it->second];
    piece.mapped = false;
    remove_range(it->first);
    take_memory_away(it->first, piece.bytes);
    settle(it->second);
    it = mappings().erase(it);
  }
  return CUDA_SUCCESS;
}

// Only access for reading and writing by the card that holds the memory.
CUresult set_access(CUdeviceptr at, std::size_t bytes, const CUmemAccessDesc* access, std::size_t count) {
  const std::lock_guard lock(g_mutex);
  const auto it = mappings().find(at);
  if (it == mappings().end()) return CUDA_ERROR_INVALID_VALUE;
  const Physical& piece = physical()[it->second];
  const bool plain = count == 1 && access->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE &&
                     access->location.id == piece.card && piece.bytes == bytes;
  if (!plain) return CUDA_ERROR_NOT_SUPPORTED;
  back_with_memory(at, bytes);
  add_range(at, {bytes, piece.card, false});
  return CUDA_SUCCESS;
}

CUresult granularity(std::size_t* bytes, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
  *bytes = kGranularity;
  return CUDA_SUCCESS;
}

CUresult error_string(CUresult status, const char** text) {
  static thread_local char written[32];
  std::snprintf(written, sizeof written, "driver error %d", static_cast<int>(status));
  *text = written;
  return CUDA_SUCCESS;
}

// LibTorch asks for many functions and calls few: each of the others gets one that names itself.
constexpr std::size_t kMostRefusals = 256;
std::array<std::string, kMostRefusals>& refused_names() {
  static auto* names = new std::array<std::string, kMostRefusals>;
  return *names;
}
template <std::size_t I>
CUresult refused() {
  cuda_on_host_refuse(refused_names()[I].c_str());
  return CUDA_ERROR_NOT_SUPPORTED;
}
template <std::size_t... I>
void* refusal(std::size_t place, std::index_sequence<I...>) {
  static const std::array<CUresult (*)(), sizeof...(I)> functions = {&refused<I>...};
  return reinterpret_cast<void*>(functions.at(place));
}

void* function_named(const std::string& name) {
  static const std::map<std::string, void*> known = {
      {"cuMemAddressReserve", reinterpret_cast<void*>(&reserve)},
      {"cuMemAddressFree", reinterpret_cast<void*>(&unreserve)},
      {"cuMemCreate", reinterpret_cast<void*>(&create)},
      {"cuMemRelease", reinterpret_cast<void*>(&release)},
      {"cuMemMap", reinterpret_cast<void*>(&map)},
      {"cuMemUnmap", reinterpret_cast<void*>(&unmap)},
      {"cuMemSetAccess", reinterpret_cast<void*>(&set_access)},
      {"cuMemGetAllocationGranularity", reinterpret_cast<void*>(&granularity)},
      {"cuGetErrorString", reinterpret_cast<void*>(&error_string)},
  };
  const auto it = known.find(name);
  if (it != known.end()) return it->second;
  static std::size_t count = 0;
  const std::lock_guard lock(g_mutex);
  std::size_t place = 0;
  while (place < count && refused_names()[place] != name) ++place;
  if (place == kMostRefusals) return nullptr;
  if (place == count) refused_names()[count++] = name;
  return refusal(place, std::make_index_sequence<kMostRefusals>());
}

}  // namespace
}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  *function = function_named(name);
  const bool there = *function != nullptr;
  if (found != nullptr) *found = there ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return there ? cudaSuccess : report(cudaErrorSymbolNotFound);
}

}  // extern "C"
