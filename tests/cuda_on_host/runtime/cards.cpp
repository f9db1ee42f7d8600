#include "tests/cuda_on_host/runtime/cards.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>

#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

thread_local int t_card = 0;
thread_local bool t_chosen = false;
std::atomic<bool> g_chosen{false};
std::mutex g_mutex;
std::array<bool, kMostCards> g_contexts{};

// Those of workstations: 8.6, 8.9 and 12.0.
bool is_small() {
  return settings().capability / 10 == 12 || (settings().capability / 10 == 8 && settings().capability > 80);
}

bool exists(int card) {
  return card >= 0 && card < settings().cards;
}

}  // namespace

int most_shared_bytes() {
  if (is_small()) return 101376;
  return settings().capability >= 90 ? 232448 : 166912;
}

int current_card() {
  return t_card;
}
bool thread_chose_card() {
  return t_chosen;
}
bool process_chose_card() {
  return g_chosen;
}

void work_on_card(int card) {
  t_card = card;
  t_chosen = true;
}

bool ensure_context(int card) {
  const std::lock_guard lock(g_mutex);
  if (g_contexts[card]) return true;
  if (std::find(g_contexts.begin(), g_contexts.end(), true) != g_contexts.end()) {
    misused("a call", "makes this process a context on a second card");
  }
  g_contexts[card] = charge(card, settings().context_bytes);
  return g_contexts[card];
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

bool cuda_on_host_has_context(int card) {
  const std::lock_guard lock(g_mutex);
  return exists(card) && g_contexts[card];
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (settings().driver / 1000 < CUDART_VERSION / 1000) return report(cudaErrorInsufficientDriver);
  *count = settings().cards;
  return settings().cards > 0 ? cudaSuccess : report(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int card) {
  if (!exists(card)) return report(cudaErrorInvalidDevice);
  if (settings().taken) return report(cudaErrorDevicesUnavailable);
  work_on_card(card);
  g_chosen = true;
  return ensure_context(card) ? cudaSuccess : report(cudaErrorMemoryAllocation);
}

cudaError_t cudaGetDevice(int* card) {
  *card = t_card;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int card) {
  if (!exists(card)) return report(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "%s", settings().card_name.c_str());
  properties->uuid.bytes[15] = static_cast<char>(card + 1);
  properties->pciBusID = card + 1;
  properties->totalGlobalMem = static_cast<std::size_t>(settings().card_bytes);
  properties->sharedMemPerBlock = kSharedBytes;
  properties->sharedMemPerBlockOptin = most_shared_bytes();
  properties->sharedMemPerMultiprocessor = static_cast<std::size_t>(most_shared_bytes()) + 1024;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = kMostThreads;
  properties->maxThreadsPerMultiProcessor = is_small() ? 1536 : 2048;
  properties->maxBlocksPerMultiProcessor = 32;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = kMostThreads;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 2147483647;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->totalConstMem = 65536;
  properties->major = settings().capability / 10;
  properties->minor = settings().capability % 10;
  properties->multiProcessorCount = 108;
  properties->l2CacheSize = 40 << 20;
  properties->memoryBusWidth = 5120;
  properties->unifiedAddressing = properties->concurrentKernels = properties->canMapHostMemory = 1;
  properties->asyncEngineCount = 3;
  properties->textureAlignment = 512;
  properties->memPitch = 2147483647;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int card) {
  if (!exists(card)) return report(cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  cudaGetDeviceProperties(&properties, card);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = kSharedBytes;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = most_shared_bytes();
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = kMostThreads;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = properties.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = properties.warpSize;
      return cudaSuccess;
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
      *value = settings().reads_host && settings().says_so ? 1 : 0;
      return cudaSuccess;
    default:
      std::fprintf(stderr, "cuda_on_host: attribute %d of a device: ", static_cast<int>(attribute));
      return static_cast<cudaError_t>(cuda_on_host_refuse("cudaDeviceGetAttribute"));
  }
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int card) {
  if (!exists(card)) return report(cudaErrorInvalidDevice);
  std::snprintf(text, static_cast<std::size_t>(size), "0000:%02X:00.0", card + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return enter("cudaDeviceGetStreamPriorityRange");
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = settings().driver;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  if (const cudaError_t status = enter("cudaMemGetInfo")) return status;
  *total = static_cast<std::size_t>(settings().card_bytes);
  *free = static_cast<std::size_t>(std::max<std::int64_t>(0, settings().card_bytes - used_on(t_card)));
  return cudaSuccess;
}

}  // extern "C"
