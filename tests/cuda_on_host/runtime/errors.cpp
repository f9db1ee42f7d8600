#include "tests/cuda_on_host/runtime/errors.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <string>

#include "tests/cuda_on_host/runtime/cards.h"
#include "tests/cuda_on_host/runtime/places.h"
#include "tests/cuda_on_host/runtime/settings.h"

namespace cuda_on_host {
namespace {

thread_local cudaError_t t_last = cudaSuccess;
thread_local int t_host_functions = 0;
std::atomic<int> g_lasting{cudaSuccess};

}  // namespace

cudaError_t report(cudaError_t status) {
  if (status != cudaSuccess) t_last = status;
  return status;
}

cudaError_t outcome() {
  return report(static_cast<cudaError_t>(g_lasting.load()));
}

void fail_device(cudaError_t status) {
  g_lasting = status;
}

void misused(const char* call, const char* what) {
  if (settings().misuse == Misuse::ignore) return;
  static std::mutex mutex;
  static auto* told = new std::set<std::string>;
  const std::lock_guard lock(mutex);
  const bool stop = settings().misuse == Misuse::stop;
  if (!told->insert(std::string(call) + what).second && !stop) return;
  std::fprintf(stderr, "cuda_on_host: misuse: %s %s; called at %s\n", call, what, describe_callers().c_str());
  if (stop) std::abort();
}

cudaError_t enter(const char* call) {
  if (t_host_functions > 0) misused(call, "is called inside a host function");
  if (!thread_chose_card() && process_chose_card()) {
    misused(call, "is called by a thread that never set its device: a context on card 0");
  }
  if (!ensure_context(current_card())) return report(cudaErrorMemoryAllocation);
  return outcome();
}

HostFunctionScope::HostFunctionScope() {
  ++t_host_functions;
}
HostFunctionScope::~HostFunctionScope() {
  --t_host_functions;
}

}  // namespace cuda_on_host

using namespace cuda_on_host;

extern "C" {

int cuda_on_host_refuse(const char* function) {
  std::fprintf(stderr, "cuda_on_host: %s is not emulated\n", function);
  return report(cudaErrorNotSupported);
}

cudaError_t cudaGetLastError() {
  const cudaError_t last = t_last;
  t_last = static_cast<cudaError_t>(g_lasting.load());
  return last;
}

cudaError_t cudaPeekAtLastError() {
  return t_last;
}

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorDevicesUnavailable:
      return "cudaErrorDevicesUnavailable";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorInvalidDeviceFunction:
      return "cudaErrorInvalidDeviceFunction";
    case cudaErrorAssert:
      return "cudaErrorAssert";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorNotSupported:
      return "cudaErrorNotSupported";
    default:
      return "cudaError";
  }
}

const char* cudaGetErrorString(cudaError_t status) {
  switch (status) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorDevicesUnavailable:
      return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorInvalidDeviceFunction:
      return "invalid device function";
    case cudaErrorAssert:
      return "device-side assert triggered";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    case cudaErrorNotSupported:
      return "operation not supported";
    default:
      return "an error of CUDA on the host";
  }
}

}  // extern "C"
