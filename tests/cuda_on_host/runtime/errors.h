// Errors as CUDA keeps them: a thread's last one, and one of the device that stays.
#pragma once

#include <cuda_runtime_api.h>

namespace cuda_on_host {

// Remembers the status as the thread's last error, unless it is success.
cudaError_t report(cudaError_t status);

// The device's lasting error, which every later call returns.
cudaError_t outcome();
void fail_device(cudaError_t status);

// Begins every call that works on the current card: makes its context, and tells of threads that have no business
// there. Success unless the card is too full for a context or has failed.
cudaError_t enter(const char* call);

// A call that no program should make, by the choice of settings().misuse.
void misused(const char* call, const char* what);

// Marks the thread as one that runs a host function, where calls of CUDA are not permitted.
class HostFunctionScope {
 public:
  HostFunctionScope();
  ~HostFunctionScope();
  HostFunctionScope(const HostFunctionScope&) = delete;
  HostFunctionScope& operator=(const HostFunctionScope&) = delete;
};

}  // namespace cuda_on_host

extern "C" {
// Says that the named function is not there. Returns cudaErrorNotSupported.
int cuda_on_host_refuse(const char* function);
}
