#include "tests/cuda_on_host/runtime/kernels.h"

#include <cxxabi.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/errors.h"
#include "tests/cuda_on_host/runtime/fat_binary.h"
#include "tests/cuda_on_host/runtime/ledger.h"
#include "tests/cuda_on_host/runtime/settings.h"
#include "tests/cuda_on_host/runtime/shortage.h"

namespace cuda_on_host {
namespace {

struct Kernel {
  std::string mangled, demangled;
  const void* image = nullptr;  // the fat binary that holds its code
  bool loaded = false;
  Binder binder;
  std::size_t most_shared = kSharedBytes;
};

std::mutex g_mutex;
std::unordered_map<const void*, Kernel>& kernels() {
  static auto* kernels = new std::unordered_map<const void*, Kernel>;
  return *kernels;
}
std::unordered_map<std::string, Binder>& binders() {
  static auto* binders = new std::unordered_map<std::string, Binder>;
  return *binders;
}
std::vector<Finder>& finders() {
  static auto* finders = new std::vector<Finder>;
  return *finders;
}

std::string demangle(const std::string& mangled) {
  int status = 0;
  char* text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? text : mangled;
  std::free(text);
  return result;
}

// Without return type and parameters, which are what the last balanced parentheses hold.
std::string bare_name(const std::string& demangled) {
  int depth = 0;
  std::size_t end = demangled.size();
  for (std::size_t i = demangled.size(); i-- > 0;) {
    if (demangled[i] == ')') ++depth;
    if (demangled[i] == '(' && --depth == 0) {
      end = i;
      break;
    }
  }
  const std::size_t begin = demangled.rfind("void ", 0) == 0 ? 5 : 0;
  return demangled.substr(begin, end - begin);
}

Binder find_binder(const std::string& demangled) {
  const auto it = binders().find(bare_name(demangled));
  if (it != binders().end()) return it->second;
  for (const Finder& finder : finders()) {
    if (Binder found = finder(demangled)) return found;
  }
  return nullptr;
}

void describe(const char* what, const Kernel& kernel, const Launch& launch) {
  std::fprintf(stderr, "cuda_on_host: %s %s, grid %u,%u,%u, block %u,%u,%u, %zu bytes shared\n", what,
               kernel.demangled.c_str(), launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x,
               launch.block.y, launch.block.z, launch.shared);
}

// The first launch loads the kernel's code, which takes memory of the card.
cudaError_t load(Kernel& kernel, const Launch& launch) {
  if (kernel.loaded) return cudaSuccess;
  kernel.demangled = demangle(kernel.mangled);
  if (!has_code_for(kernel.image, settings().capability)) {
    std::fprintf(stderr, "cuda_on_host: no code for compute capability %d.%d among %s: %s\n",
                 settings().capability / 10, settings().capability % 10, describe_code(kernel.image).c_str(),
                 kernel.demangled.c_str());
    return report(cudaErrorNoKernelImageForDevice);
  }
  if (finds_none(Taker::kernel) || !charge(current_card(), settings().kernel_bytes))
    return report(cudaErrorMemoryAllocation);
  kernel.binder = find_binder(kernel.demangled);
  if (!kernel.binder) describe("REFUSED, since nothing runs in its place:", kernel, launch);
  if (kernel.binder && settings().trace) describe("first launch of", kernel, launch);
  kernel.loaded = true;
  return cudaSuccess;
}

bool fits(const Launch& launch, const Kernel& kernel) {
  const dim3 &grid = launch.grid, &block = launch.block;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  return threads > 0 && threads <= kMostThreads && block.z <= 64 && grid.x > 0 && grid.y > 0 && grid.z > 0 &&
         grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535 && launch.shared <= kernel.most_shared;
}

cudaError_t start(const void* function, const Launch& launch, void** arguments, cudaStream_t stream) {
  if (const cudaError_t status = enter("cudaLaunchKernel")) return status;
  const auto queue = find_queue(stream);
  if (queue == nullptr || queue->card() != current_card()) return report(cudaErrorInvalidResourceHandle);
  std::unique_lock lock(g_mutex);
  const auto it = kernels().find(function);
  if (it == kernels().end()) return report(cudaErrorInvalidDeviceFunction);
  Kernel& kernel = it->second;
  if (const cudaError_t status = load(kernel, launch)) return status;
  if (!fits(launch, kernel)) {
    describe("a grid, a block or shared memory that no device takes:", kernel, launch);
    return report(cudaErrorInvalidConfiguration);
  }
  if (settings().bytes_only) return cudaSuccess;
  if (!kernel.binder) return report(cudaErrorInvalidDeviceFunction);
  try {
    Work work = kernel.binder(launch, arguments);
    lock.unlock();
    queue->push(std::move(work));
    return cudaSuccess;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_on_host: REFUSED, %s: %s\n", error.what(), kernel.demangled.c_str());
    return report(cudaErrorInvalidDeviceFunction);
  }
}

struct Configuration {
  Launch launch;
  cudaStream_t stream = nullptr;
};
thread_local Configuration t_configuration;

}  // namespace

void add_kernel(const std::string& name, Binder binder) {
  const std::lock_guard lock(g_mutex);
  binders()[name] = std::move(binder);
}

void add_finder(Finder finder) {
  const std::lock_guard lock(g_mutex);
  finders().push_back(std::move(finder));
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

// What nvcc makes of `__global__` and `<<<>>>`.
extern "C" {

void** __cudaRegisterFatBinary(void* image) {
  return new void*(image);
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void** handle) {
  delete handle;
}
void __cudaRegisterFunction(void** binary, const char* function, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  const std::lock_guard lock(g_mutex);
  kernels()[function].mangled = name;
  kernels()[function].image = *binary;
}
// Variables of device code are not emulated: whoever asks for one's address is refused.
void __cudaRegisterVar(void**, char*, char*, const char*, int, std::size_t, int, int) {}
void __cudaRegisterManagedVar(void**, void**, char*, const char*, int, std::size_t, int, int) {}
char __cudaInitModule(void**) {
  return 0;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared, CUstream_st* stream) {
  t_configuration = {{grid, block, shared}, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = t_configuration.launch.grid;
  *block = t_configuration.launch.block;
  *shared = t_configuration.launch.shared;
  *static_cast<cudaStream_t*>(stream) = t_configuration.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared, cudaStream_t stream) {
  return start(kernel, {grid, block, shared}, arguments, stream);
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                             std::size_t shared, cudaStream_t stream) {
  return start(function, {grid, block, shared}, arguments, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  if (config->numAttrs != 0) return static_cast<cudaError_t>(cuda_on_host_refuse("a launch with attributes"));
  return start(function, {config->gridDim, config->blockDim, config->dynamicSmemBytes}, arguments,
               config->stream);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  if (const cudaError_t status = enter("cudaFuncGetAttributes")) return status;
  const std::lock_guard lock(g_mutex);
  const auto it = kernels().find(function);
  if (it == kernels().end()) return report(cudaErrorInvalidDeviceFunction);
  *attributes = {};
  attributes->maxThreadsPerBlock = kMostThreads;
  attributes->numRegs = 32;
  attributes->binaryVersion = attributes->ptxVersion = settings().capability;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(it->second.most_shared);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  if (const cudaError_t status = enter("cudaFuncSetAttribute")) return status;
  const std::lock_guard lock(g_mutex);
  const auto it = kernels().find(function);
  if (it == kernels().end()) return report(cudaErrorInvalidDeviceFunction);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
    return static_cast<cudaError_t>(cuda_on_host_refuse("this attribute of a kernel"));
  }
  if (value < 0 || value > most_shared_bytes()) return report(cudaErrorInvalidValue);
  it->second.most_shared = static_cast<std::size_t>(value);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int threads,
                                                                   std::size_t, unsigned) {
  cudaDeviceProp card;
  cudaGetDeviceProperties(&card, current_card());
  *blocks = threads > 0 ? card.maxThreadsPerMultiProcessor / threads : 0;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          std::size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}

}  // extern "C"
